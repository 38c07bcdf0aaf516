"""What users write: controllers, and the stages and tasks that are declared on them."""
