"""The process graph: stages joined by edges with policies, and the runners that drive them."""
