import pytest

from tests.threads import pytorch_threads


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    """The number of PyTorch's threads: one, as many as work apart, more."""
    with pytorch_threads(request.param):
        yield request.param
