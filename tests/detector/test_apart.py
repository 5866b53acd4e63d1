"""Work on several images is the same with any number of threads."""

import multiprocessing
import sys
import threading

import pytest
import torch

from crossview.detector.apart import MOST_THREADS, for_each_image, works_apart


def test_images_come_back_in_order_and_without_gradients(threads):
    images = torch.arange(5.0, requires_grad=True)[:, None, None, None].expand(5, 3, 8, 8)
    with torch.no_grad():
        found = for_each_image(lambda image: image + 1, images)
    assert [float(image.mean()) for image in found] == [1, 2, 3, 4, 5]
    assert not any(image.requires_grad for image in found)


def test_two_threads_work_apart_with_one_each(threads):
    def who(image):
        return threading.current_thread().name, torch.get_num_threads()

    found = for_each_image(who, torch.zeros(4, 1, 2, 2))
    main = threading.current_thread().name
    if threads == MOST_THREADS:
        assert {name for name, _ in found}.isdisjoint({main})
        assert {number for _, number in found} == {1}
    else:
        assert set(found) == {(main, threads)}
    assert torch.get_num_threads() == threads
    assert works_apart() == (threads == MOST_THREADS)


def test_an_error_in_a_thread_arrives(threads):
    def refuse(image):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        for_each_image(refuse, torch.zeros(2, 1, 2, 2))


@pytest.mark.skipif(sys.platform != "linux", reason="evaluations fork on Linux only")
def test_a_forked_process_has_threads_of_its_own(threads):
    images = torch.zeros(4, 1, 2, 2)
    for_each_image(torch.clone, images)
    child = multiprocessing.get_context("fork").Process(target=for_each_image, args=(torch.clone, images))
    child.start()
    child.join(timeout=60)
    stood_still = child.is_alive()
    child.kill()
    child.join()
    assert not stood_still
    assert child.exitcode == 0
