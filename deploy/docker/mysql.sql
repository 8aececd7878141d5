CREATE DATABASE mlflow CHARACTER SET utf8mb4;
CREATE DATABASE zenml CHARACTER SET utf8mb4;
GRANT ALL ON mlflow.* TO 'openmlops'@'%';
GRANT ALL ON zenml.* TO 'openmlops'@'%';
