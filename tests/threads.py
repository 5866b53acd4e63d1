"""PyTorch with another number of threads, for a while."""

from contextlib import contextmanager

import torch


@contextmanager
def pytorch_threads(number):
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
