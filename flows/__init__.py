"""Prefect flows; one flow a file, and its body reads like the picture in the README."""
