#!/bin/bash
# Run once, on an empty volume: one role without rights over the server, which owns our database and MLflow's.
psql -v ON_ERROR_STOP=1 -v password="$OPENMLOPS_PASSWORD" --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE openmlops LOGIN PASSWORD :'password';
CREATE DATABASE openmlops OWNER openmlops;
CREATE DATABASE mlflow OWNER openmlops;
SQL
