"""The cases, one module for what they are about; each names the clauses of docs/contract.md that it checks."""
