"""Prefect flows, one a file; a body lists the tasks in the order in which they run."""
