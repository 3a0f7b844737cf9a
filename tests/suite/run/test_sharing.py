"""Families on GPUs of a table, no GPU needed: never over the limit but alone, none starves, all run."""

import random

import pytest

from circuitmeter.suite.run.events import Finished, Started
from circuitmeter.suite.run.executors import local
from circuitmeter.suite.run.executors.sharing import SHARE, Sharing
from circuitmeter.suite.run.run import run


class Family:
    def __init__(self, need):
        self.need = need


def simulated(memory, workers, families, seed):
    """Runs families to their end, which come in any order; checks the limit whenever one starts. What started, in
    order."""
    chance = random.Random(seed)
    sharing = Sharing(memory, lambda family: family.need)
    waiting, in_hand, free, started = list(families), [], list(workers), []
    while waiting or in_hand:
        while (found := sharing.choose(waiting, in_hand, free)) is not None:
            place, device = found
            family = waiting.pop(place)
            free.remove(device)
            in_hand.append((device, family))
            started.append((family, device))
            there = [each.need for where, each in in_hand if where == device]
            assert len(there) == 1 or sum(there) <= SHARE * memory[device]
        assert in_hand, "what waits must start when nothing runs"
        device, _ = in_hand.pop(chance.randrange(len(in_hand)))
        free.append(device)
    return started


@pytest.mark.parametrize("seed", range(200))
def test_all_run_below_the_limit_or_alone(seed):
    chance = random.Random(seed)
    memory = {f"cuda:{i}": chance.choice([0, 10, 80, 80, 141]) for i in range(chance.randint(1, 4))}
    workers = [*memory, *chance.choices(list(memory), k=chance.randint(0, 12))]
    families = [Family(chance.choice([1, 5, 20, 63, 100, 500])) for _ in range(chance.randint(1, 40))]
    started = simulated(memory, workers, families, seed)
    assert sorted(map(id, families)) == sorted(id(family) for family, _ in started)


@pytest.mark.parametrize("devices", [1, 2])
def test_a_large_family_waits_no_longer_than_for_what_one_device_has_in_hand(devices):
    """Small ones never run out, three at a time on each device: it starts when those of one device are finished."""
    memory = {f"cuda:{i}": 100 for i in range(devices)}
    sharing, large = Sharing(memory, lambda family: family.need), Family(90)
    in_hand = [(device, Family(20)) for device in memory for _ in range(3)]
    free, waiting, rounds = list(memory), [large, *(Family(20) for _ in range(100))], 0
    while True:
        found = sharing.choose(waiting, in_hand, free)
        if found is not None and found[0] == 0:
            break
        if found is not None:
            free.remove(found[1])
            in_hand.append((found[1], waiting.pop(found[0])))
            continue
        free.append(in_hand.pop(0)[0])  # the one that has been there longest ends
        rounds += 1
        assert rounds <= 3 * devices + 4
    assert not [device for device, _ in in_hand if device == found[1]]


def test_several_devices_are_taken_by_free_memory_and_in_turn():
    sharing = Sharing({"cuda:0": 80, "cuda:1": 80, "cuda:2": 40}, lambda family: family.need)
    in_hand, free = [], ["cuda:0", "cuda:1", "cuda:2"] * 3
    for expected in ("cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:2"):
        place, device = sharing.choose([Family(20)], in_hand, free)
        assert (place, device) == (0, expected)
        free.remove(device)
        in_hand.append((device, Family(20)))


def test_a_need_is_estimated_once():
    asked = []
    sharing = Sharing({"cuda:0": 10}, lambda family: asked.append(family) or family.need)
    waiting, busy = [Family(9)], [("cuda:0", Family(9))]
    for _ in range(5):
        assert sharing.choose(waiting, busy, ["cuda:0"]) is None
    assert len(asked) == 2


def test_workers_share_where_there_are_more_of_them_than_devices(monkeypatch):
    monkeypatch.setattr(local, "memory_of_device", lambda device: {"cuda:0": 80}.get(str(device)))
    assert local._sharing(["cpu", "cpu"]) is None and local._sharing(["cuda:0", "cuda:1"]) is None
    shared = local._sharing(["cuda:0", "cuda:1", "cuda:0"])
    assert shared is not None and shared.memory == {"cuda:0": 80, "cuda:1": 0}


def test_workers_take_turns_on_a_device_without_room_for_two_and_find_what_one_finds(
    spec, contents, tmp_path, monkeypatch
):
    benchmark, most = spec(method=["magnitude", "random"], task="tracr/xproportion", ablation="zero"), [0, 0]

    def count(event):
        most[0] += isinstance(event, Started) - isinstance(event, Finished)
        most[1] = max(most)

    monkeypatch.setattr(local, "_sharing", lambda devices: Sharing(dict.fromkeys(devices, 100), lambda family: 60))
    run(benchmark, tmp_path / "shared", workers=2, device="cpu", on_event=count)
    assert most == [0, 1]
    run(benchmark, tmp_path / "one", executor="serial")
    assert contents(tmp_path / "shared") == contents(tmp_path / "one")
