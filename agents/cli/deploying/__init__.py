"""Make and print the secrets of a deployment, and give its logins their rights."""
