"""READMEs beside the files that contradict them, or do not: the pairs of `pairs.py` for a rule that compares files."""

FILES = {
    "requirements.txt": "zenml==0.98.0\nmlflow>=3.1,<4\ntorch\n",
    "pyproject.toml": '[project]\nname = "x"\nrequires-python = ">=3.11"\n',
    "Makefile": "setup:\n\tpip install .\ntrain: setup\n\tpython train.py\n",
    "compose.yml": """
services:
  mlflow:
    image: mlflow
    ports: ["127.0.0.1:5001:5000"]
  db:
    image: mysql:8
""",
}

LIES = """
# A project  <!-- every line below is wrong -->
Needs Python 3.8 <!-- <- readme-contradicted -->
`pip install zenml==0.55.2` <!-- <- readme-contradicted -->
It was made with MLflow 2.9 <!-- <- readme-contradicted? -->
MLflow is at http://localhost:5050 <!-- <- readme-contradicted -->
All metadata are in PostgreSQL <!-- <- readme-contradicted -->
Start with `make install` <!-- <- readme-contradicted -->
"""

TRUTH = """
# A project
Needs Python 3.11 or Python 3.12, zenml 0.98 and MLflow 3.1+
`pip install zenml==0.98.0`, then `make setup` and `make train`; make sure that torch 2 is there
MLflow is at http://localhost:5001, and inside of its container at http://localhost:5000
All metadata are in MySQL
"""
