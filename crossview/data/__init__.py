"""Paired panoramas: files on disk, pairs, augmentation and batches."""
