"""How the contract may change: frozen releases, and rules that compare two releases (DESIGN §5.4)."""
