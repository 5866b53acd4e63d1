"""Sweeps: what each job leaves behind, and what is made of all of them."""
