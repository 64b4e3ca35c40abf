"""Privacy: the policy that gives levels, the gate that enforces them, and sealing."""
