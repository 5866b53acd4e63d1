import pytest
import torch
from torch.testing import assert_close

from crossview.detector.memory_format import fast_memory_format
from tests.dual.scenes import narrow_detector


@pytest.mark.parametrize(
    ("capability", "gpu", "winograd", "threads", "nnpack", "expected"),
    [
        ("AVX512", False, False, 2, True, torch.channels_last),
        ("AVX512", False, True, 1, True, torch.contiguous_format),  # Winograd's way knows the ordinary order only
        ("AVX512", False, True, 2, True, torch.contiguous_format),
        ("AVX512", False, True, 2, False, torch.channels_last),
        ("AVX512", False, True, 8, True, torch.channels_last),
        ("AVX512", True, True, 2, True, torch.channels_last),
        ("AVX2", False, False, 2, True, torch.contiguous_format),  # oneDNN has no fast gradient of the weights there
        ("AVX2", True, True, 2, True, torch.channels_last),
        ("DEFAULT", False, True, 2, True, torch.contiguous_format),
    ],
)
def test_the_fast_format_depends_on_machine_and_network(
    capability, gpu, winograd, threads, nnpack, expected, monkeypatch
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr("crossview.detector.nnpack.is_available", lambda: nnpack)
    network = narrow_detector(winograd=winograd)
    assert fast_memory_format(network) is expected
    assert fast_memory_format(network, True) is torch.channels_last
    assert fast_memory_format(network, False) is torch.contiguous_format


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_a_detector_computes_in_its_format_whatever_the_images_have(memory_format):
    detector = narrow_detector(winograd=False)  # which one order only has, and which rounds otherwise
    pixels = torch.randint(
        0, 256, (2, *detector.image_size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    expected = detector(pixels.permute(0, 3, 1, 2).contiguous())
    detector.use_memory_format(memory_format)
    output = detector(pixels.permute(0, 3, 1, 2))
    assert_close(output.logits, expected.logits, atol=1e-5, rtol=1e-4)
    maps = detector.feature_maps(torch.zeros(1, 3, *detector.image_size).contiguous(memory_format=memory_format))
    assert maps[1].is_contiguous(memory_format=memory_format)
