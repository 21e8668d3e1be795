"""The judge of the exercises: each kind of fault, recognition, disabling, limits, tampering."""

import builtins
import random
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest
import torch

from minit2i import checks
from minit2i.checks.compare import brief, described, difference
from minit2i.checks.judge import (
    CheckFailed,
    Mistake,
    PackageCalled,
    allowed,
    equal,
    exercise,
    holds,
    raises,
    raw,
    shape,
)
from minit2i.checks.surroundings import kept

PACKAGE = types.ModuleType("minit2i_stand_in")
exec(
    """
import functools

def plain(x):
    return 2 * x

def wrapped_by(factor):
    def wrap(function):
        @functools.wraps(function)
        def inner(*args):
            return factor * function(*args)
        return inner
    return wrap

@wrapped_by(1)
def decorated(x):
    return 2 * x

@wrapped_by(1)
def neighbour(x):
    return 2 * x

def steps(x):
    yield 2 * x
    yield 4 * x

class Doubler:
    def method(self, x):
        return 2 * x
    @staticmethod
    def static(x):
        return 2 * x
    @classmethod
    def of_class(cls, x):
        return 2 * x
    @property
    def factor(self):
        return 2
    def __call__(self, x):
        return 2 * x
""",
    vars(PACKAGE),
)
sys.modules["minit2i_stand_in"] = PACKAGE


def doubling(**options):
    """A check whose right answer is 2 x."""

    @exercise(**options)
    def double(answer, draw):
        x = draw.normal(4, 3)
        equal(answer(x), 2 * x, "the result is twice the input")
        equal(answer(0 * x), 0 * x, "zero stays zero")

    return double


DOUBLE = doubling(
    disables=["minit2i_stand_in.plain"],
    mistakes=[
        Mistake("squared", "compare x = 2 with x = 3", wrong=lambda x: x**2),
        Mistake("one added", "what becomes of zero?", wrong=lambda x: x + 1),
        Mistake("empty", when=lambda calls: calls[0].output is None),
    ],
)


def refused(check, answer):
    with pytest.raises(CheckFailed) as caught:
        check(answer)
    return str(caught.value)


@pytest.fixture
def short():
    former = checks.limit(0.3)
    yield
    checks.limit(former)


def test_a_right_answer_given_in_place_is_told_only_that():
    check = doubling(mistakes=[Mistake("coincides", wrong=lambda x: 2 * x)])
    message = refused(check, lambda x: x.mul_(2))
    assert "in place" in message and "coincides" not in message


def test_success_is_one_fixed_line(capsys):
    DOUBLE(lambda x: x + x)
    assert capsys.readouterr().out == "double: all 2 properties hold.\n"


def test_failure_gives_property_numbers_and_no_long_traceback():
    with pytest.raises(CheckFailed) as caught:
        DOUBLE(lambda x: 3 * x)
    assert isinstance(caught.value, AssertionError)
    assert caught.value.__suppress_context__
    assert {entry.path.name for entry in caught.traceback} <= {
        "test_checks.py",
        "judge.py",
        "_decorator.py",
        "<string>",
    }
    text = str(caught.value)
    assert "does not hold: the result is twice the input" in text
    assert "12 of 12 numbers differ" in text
    assert "known mistake" not in text


def test_known_mistake_is_named_with_its_hint():
    text = refused(DOUBLE, lambda x: x * x)
    assert "known mistake: squared" in text
    assert "Hint: compare x = 2 with x = 3" in text
    assert "one added" not in text


def test_mistake_recognised_by_predicate():
    assert "known mistake: empty" in refused(DOUBLE, lambda x: None)


def raiser(x):
    return x / torch.zeros(2)[5]


FAULTS = {
    "returned None: is a `return` forgotten?": lambda x: None,
    "it prints its result instead of returning it": lambda x: print("here"),
    "raised IndexError": raiser,
    "return x / torch.zeros(2)[5]": raiser,
    "float where a tensor is expected": lambda x: 0.8,
    "an int where a tensor is expected": lambda x: 1,
    "got a single number, expected shape (4, 3)": lambda x: x.sum(),
    "numpy array where a torch tensor is expected": lambda x: (2 * x).numpy(),
    "got shape (12,), expected (4, 3)": lambda x: (2 * x).reshape(-1),
    "broadcast against each other": lambda x: 2 * x[:, None, :] + 0 * x[None],
    "NaN or infinite": lambda x: 2 * x / (0 * x),
    "changes its input in place": lambda x: x.mul_(2),
    "package's own version": lambda x: PACKAGE.plain(x),
    "raised SystemExit": lambda x: sys.exit(),
    "raised RecursionError": lambda x: (lambda f: f(f))(lambda f: f(f)),
    "a Sub where a plain tensor": lambda x: (2 * x).as_subclass(type("Sub", (torch.Tensor,), {})),
    "something else when it is called again": lambda x, seen=[]: (seen.append(0), len(seen))[1] * x,
}


def test_a_branch_without_return_is_told_from_a_function_without():
    @exercise()
    def check(answer, draw):
        for x in (1.0, -1.0):
            equal(answer(x), abs(x), "the size")

    assert "which branch ends without a `return`?" in refused(check, lambda x: x if x > 0 else None)
    assert "is a `return` forgotten?" in refused(check, lambda x: None)


def test_numbers_can_be_read():
    def told(got, expected):
        pair = (torch.tensor(x, dtype=torch.float64) for x in (got, expected))
        return difference(*pair, 1e-12, None, False)

    off = "got 0.1, expected 0.1 (off by 1e-09, which is too much here)"
    assert told([0.1 + 1e-9], [0.1]) == off
    assert told([-0.0, 1.0], [3.0, 1.0]) == "got 0, expected 3 at [0]; 1 of 2 numbers differs"
    shown = brief(7), brief(torch.tensor([1, 2])), brief(np.int64(3)), brief(0.5), brief(int)
    assert shown == ("7", "[1, 2]", "3", "0.5", "int")
    assert described((1, 2)) == "a tuple of 2 values"
    assert described(torch.ones(2, 3)) == "a Tensor of shape (2, 3)"
    assert described(1) == "an int"


@pytest.mark.parametrize("says", FAULTS)
def test_common_fault_is_explained(says):
    check = doubling(disables=["minit2i_stand_in.plain"])
    if says.startswith("something else"):

        @exercise()
        def check(answer, draw):
            equal(answer(torch.ones(2)), torch.ones(2), "once", tol=9)

    assert says in refused(check, FAULTS[says])


def test_stub_is_told_apart():
    def stub(x):
        raise NotImplementedError

    assert "not written yet" in refused(DOUBLE, stub)


@pytest.mark.parametrize("thing", [None, 3.0, torch.ones(2)])
def test_a_result_is_not_a_function(thing):
    assert "hand over the function itself" in refused(DOUBLE, thing)


def test_numbers_seen_once_are_no_answer():
    seen = []
    with pytest.raises(CheckFailed):
        DOUBLE(lambda x: seen.append(2 * x) or 2 * x if not seen else seen[0])
    checks.seed(7)
    try:
        other = []
        DOUBLE(lambda x: other.append(x.clone()) or 2 * x)
    finally:
        checks.seed(0)
    assert not torch.equal(other[0], seen[0] / 2)
    assert not torch.equal(other[0], other[3])


def test_numpy_where_it_is_allowed():
    doubling(numpy=True)(lambda x: 2 * x.numpy())


def test_data_type_where_it_matters():
    @exercise()
    def typed(answer, draw):
        equal(answer(), torch.ones(2), "ones", dtype=torch.float32)

    typed(lambda: torch.ones(2))
    assert "float64, expected torch.float32" in refused(typed, lambda: torch.ones(2).double())


def test_single_precision_is_judged_as_such():
    DOUBLE(lambda x: 2 * x.float())
    assert "known mistake: squared" in refused(DOUBLE, lambda x: x.float() ** 2)


def test_holds_shape_and_raises():
    @exercise()
    def careful(answer, draw):
        raises(ValueError, "a negative number is refused", answer, -1.0)
        out = answer(2.0)
        shape(out, (2,), "two numbers come out")
        holds(out.sum() > 3, "their sum is above 3", total=float(out.sum()))

    def right(x):
        if x < 0:
            raise ValueError(x)
        return x * torch.ones(2)

    careful(right)
    assert "returned instead of raising ValueError" in refused(careful, lambda x: torch.ones(2))
    assert "total 2" in refused(careful, lambda x: right(x) / 2)
    assert "two numbers come out" in refused(careful, lambda x: right(x)[:1])
    assert "raised ZeroDivisionError" in refused(careful, lambda x: 1 / 0 if x < 0 else right(x))


def test_answer_that_is_to_change_its_input():
    mistake = Mistake("too far", wrong=lambda net: net.weight.data.add_(2))

    @exercise(mutates=True, mistakes=[mistake])
    def shift(answer, draw):
        net = torch.nn.Linear(1, 1)
        before = net.weight.detach().clone()
        answer(net)
        equal(net.weight, before + 1, "the weight has grown by one")

    def right(net):
        net.weight.data += 1

    def far(net):
        net.weight.data += 2
        return net.weight.data

    def far_and_handed_back(net):
        net.weight.data += 2
        return net

    shift(right)
    assert "known mistake: too far" in refused(shift, far)
    assert "known mistake: too far" in refused(shift, far_and_handed_back)
    assert "known mistake" not in refused(shift, lambda net: net.weight.data.add_(3))


def test_a_number_and_a_tensor_that_is_one_are_the_same_answer():
    @exercise(mistakes=[Mistake("squared", wrong=lambda x: float(x.sum() ** 2))])
    def total(answer, draw):
        x = draw.normal(4)
        equal(answer(x), float(x.sum()), "the numbers are summed")

    total(lambda x: x.sum())
    total(lambda x: x.sum().item())
    assert "known mistake: squared" in refused(total, lambda x: x.sum() ** 2)
    assert "known mistake" not in refused(total, lambda x: x.sum() ** 2 + 1)
    assert "known mistake" not in refused(total, lambda x: (x.sum() ** 2)[None])


# --- classes, functions that return functions, generators ---------------------------------------


class Scale(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(float(factor)))

    def forward(self, x):
        return self.factor * x

    def inverse(self, y):
        return y / self.factor


class Unscaled(Scale):
    def inverse(self, y):
        return y


def test_class_answer():
    @exercise(mistakes=[Mistake("not inverted", wrong=Unscaled)])
    def scale(answer, draw):
        net, x = answer(3.0), draw.normal(2)
        equal(net(x), 3 * x, "scaled")
        equal(net.inverse(net(x)), x, "inverse undoes it")
        assert isinstance(raw(net), torch.nn.Module)

    class Mine(Scale):
        def inverse(self, y):
            return 1 * y

    scale(Scale)
    assert "known mistake: not inverted" in refused(scale, Mine)


def test_answer_that_returns_a_function():
    @exercise(
        disables=["minit2i_stand_in.plain"],
        mistakes=[Mistake("shifted", wrong=lambda k: lambda x: x + k)],
    )
    def times(answer, draw):
        x = draw.normal(2)
        equal(answer(3)(x), 3 * x, "three times")

    times(lambda k: lambda x: k * x)
    assert "known mistake: shifted" in refused(times, lambda k: lambda x: k + x)
    assert "package's own version" in refused(times, lambda k: lambda x: PACKAGE.plain(x))


def test_generator_answer(short):
    def twice(x):
        yield x
        yield x

    @exercise(disables=["minit2i_stand_in.steps"], mistakes=[Mistake("stands still", wrong=twice)])
    def walk(answer, draw):
        x = draw.normal(2)
        equal(list(answer(x)), [2 * x, 4 * x], "two steps")

    def right(x):
        for _ in range(2):
            x = 2 * x
            yield x

    def changes(x):
        x *= 2
        yield x
        yield 2 * x

    def endless(x):
        while True:
            yield x

    walk(right)
    assert "known mistake: stands still" in refused(walk, lambda x: iter([x, x]))
    assert "package's own version" in refused(walk, lambda x: PACKAGE.steps(x))
    assert "in place" in refused(walk, changes)
    assert "took longer" in refused(walk, endless)


# --- the package's own version ------------------------------------------------------------------

DOUBLER = PACKAGE.Doubler()


@pytest.mark.parametrize(
    "name, call",
    [
        ("plain", PACKAGE.plain),
        ("decorated", PACKAGE.decorated),
        ("Doubler.method", DOUBLER.method),
        ("Doubler.static", DOUBLER.static),
        ("Doubler.of_class", DOUBLER.of_class),
        ("Doubler.factor", lambda x: DOUBLER.factor * x),
        ("Doubler", DOUBLER),
        ("plain", types.FunctionType(PACKAGE.plain.__code__, {})),
    ],
)
def test_disabled_under_any_name_and_free_afterwards(name, call):
    check = doubling(disables=[f"minit2i_stand_in.{name}"])

    def swallows(x):
        try:
            return call(x)
        except PackageCalled:
            return 2 * x

    for answer in (call, lambda x: call(x), swallows):
        says = f"calls minit2i_stand_in.{name}, the package's own version"
        assert says in refused(check, answer)
        assert call(3) == 6


def test_neighbours_with_the_same_decorator_stay_usable():
    doubling(disables=["minit2i_stand_in.decorated"])(lambda x: PACKAGE.neighbour(x))


def test_the_real_package_under_type_checking():
    from minit2i.schedule import Schedule

    def calls(x0, alpha_bar, eps):
        schedule = Schedule([1.0, 0.5], [0.0, 0.5])
        return schedule.diffuse(x0, torch.ones(len(x0), dtype=torch.int64), eps)

    assert "calls minit2i.schedule.Schedule.diffuse" in refused(checks.forward.closed_form, calls)


def test_the_check_itself_and_other_threads_may_use_the_package():
    @exercise(disables=["minit2i_stand_in.plain"])
    def oracle(answer, draw):
        x = draw.normal(3)
        equal(answer(allowed(PACKAGE.plain), x), PACKAGE.plain(x), "as the oracle says")

    errors, stop = [], threading.Event()

    def background():
        while not stop.is_set():
            try:
                PACKAGE.plain(1)
            except PackageCalled as error:
                errors.append(error)

    thread = threading.Thread(target=background)
    thread.start()
    try:
        for _ in range(20):
            oracle(lambda f, x: f(x))
    finally:
        stop.set()
        thread.join()
    assert not errors
    assert "package's own version" in refused(oracle, lambda f, x: PACKAGE.plain(x))


def test_checks_in_several_threads_do_not_disturb_each_other():
    outcomes = []

    def work(answer):
        for _ in range(5):
            try:
                DOUBLE(answer)
                outcomes.append(True)
            except CheckFailed:
                outcomes.append(False)

    answers = [lambda x: x + x, PACKAGE.plain]
    threads = [threading.Thread(target=work, args=(answer,)) for answer in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 5 + [True] * 5


def test_unknown_name_to_disable_is_an_error():
    with pytest.raises((ImportError, AttributeError)):
        doubling(disables=["minit2i_stand_in.absent"])(lambda x: 2 * x)


# --- the time limit -----------------------------------------------------------------------------


def endless(x):
    while True:
        pass


def asleep(x):
    time.sleep(3)


def stubborn(x, until=None):
    until = time.monotonic() + 2
    while time.monotonic() < until:
        try:
            while time.monotonic() < until:
                pass
        except BaseException:
            pass


@pytest.mark.parametrize("answer", [endless, asleep, stubborn])
def test_time_limit(short, answer):
    start = time.monotonic()
    text = refused(DOUBLE, answer)
    assert time.monotonic() - start < 1.5
    assert "took longer than 0.3 s" in text
    assert ("restart the kernel" in text) == (answer is not endless)
    assert PACKAGE.plain(1) == 2
    DOUBLE(lambda x: 2 * x)


def test_time_limit_tells_the_line(short):
    assert "in line" in refused(DOUBLE, endless)


def test_the_users_own_interrupt_gets_through():
    code = (
        "import signal, threading, time, _thread\n"
        "from minit2i import checks\n"
        # a job in the background is started with interrupts ignored, and hands that on
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "threading.Timer(0.5, _thread.interrupt_main).start()\n"
        "def endless(*args):\n"
        "    while True: pass\n"
        "checks.limit(20)\n"
        "start = time.monotonic()\n"
        "try: checks.forward.closed_form(endless)\n"
        "except KeyboardInterrupt: print('interrupted', time.monotonic() - start < 10)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "interrupted True\n", done.stderr


# --- tampering and surroundings -----------------------------------------------------------------


@pytest.mark.parametrize(
    "owner, name, fake",
    [
        (torch, "allclose", lambda *args, **kwargs: True),
        (torch, "equal", lambda *args, **kwargs: True),
        (torch, "where", lambda *args, **kwargs: torch.zeros(())),
        (torch.Tensor, "numpy", lambda self: np.zeros(self.shape)),
        (torch.Tensor, "to", lambda self, *args: torch.zeros(self.shape, dtype=torch.float64)),
        (torch.Tensor, "detach", lambda self: torch.zeros(self.shape, dtype=torch.float64)),
        (torch.Tensor, "__mul__", lambda self, other: 0 * torch.add(self, self)),
        (np, "abs", lambda x: np.zeros_like(x)),
        (np, "asarray", lambda x: np.zeros(1)),
        (np, "allclose", lambda *args, **kwargs: True),
        (builtins, "all", lambda items: True),
        (builtins, "abs", lambda x: 0),
        (builtins, "sum", lambda *args: 0),
        (builtins, "bool", lambda x=None: True),
    ],
)
def test_replaced_functions_pass_nothing(monkeypatch, owner, name, fake):
    monkeypatch.setattr(owner, name, fake, raising=False)
    text = passed = None
    try:
        DOUBLE(lambda x: torch.add(x, 1))
        passed = True
    except CheckFailed as failed:
        text = str(failed)
    there = vars(owner)[name] is fake
    monkeypatch.undo()
    assert not passed
    assert "twice the input" in text
    assert there, "the notebook's own replacement is put back"


def test_replacing_functions_while_the_answer_runs_passes_nothing():
    true_sqrt = torch.sqrt

    @exercise()
    def root(answer, draw):
        x = draw.uniform(1, 2, 3)
        got = answer(x)
        equal(got, torch.sqrt(x), "the root")

    def cheat(x):
        torch.sqrt = lambda y: y
        return x.clone()

    refused(root, cheat)
    assert torch.sqrt is true_sqrt


def test_switching_the_hook_off_passes_nothing():
    def cheat(x):
        try:
            PACKAGE.plain(x)
        except PackageCalled:
            pass
        sys.setprofile(None)
        return PACKAGE.plain(x)

    assert "package's own version" in refused(DOUBLE, cheat)


def _state():
    return (
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        sys.getprofile(),
        torch.sqrt,
    )


def _messy(x):
    torch.manual_seed(5)
    torch.rand(3)
    np.random.rand(3)  # noqa: NPY002
    random.random()
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.set_num_threads(2)
    return 2 * x


def _messy_and_wrong(x):
    _messy(x)
    raise ValueError


@pytest.mark.parametrize("answer", [_messy, _messy_and_wrong, PACKAGE.plain])
def test_global_state_is_as_before(answer):
    before = _state()
    try:
        DOUBLE(answer)
    except CheckFailed:
        pass
    assert _state() == before


def test_pythons_own_random_state_is_as_before():
    random.seed(1)
    with kept():
        random.random()
    after = random.random()
    random.seed(1)
    assert after == random.random()


def test_gradients_work_whatever_the_caller_does():
    @exercise()
    def slope(answer, draw):
        x = draw.normal(3).requires_grad_()
        (g,) = torch.autograd.grad(answer(x).sum(), x)
        equal(g, 2 * x.detach(), "the slope of the square is 2 x")

    with torch.no_grad():
        slope(lambda x: x**2)
        assert not torch.is_grad_enabled()


def test_global_randomness_where_it_is_forbidden():
    @exercise(global_random=False)
    def noise(answer, draw):
        g = torch.Generator().manual_seed(1)
        equal(answer(g), torch.randn(2, generator=g.clone_state().manual_seed(1)), "own noise")

    noise(lambda g: torch.randn(2, generator=g))
    assert "global random state" in refused(noise, lambda g: torch.randn(2))


def test_random_mistake_is_recognised_with_the_same_draws():
    @exercise(mistakes=[Mistake("noise squared", wrong=lambda x: x + torch.randn(3) ** 2)])
    def noisy(answer, draw):
        x = draw.normal(3, dtype=torch.float32)
        holds(bool((answer(x) < x).any()), "noise has both signs")

    assert "known mistake: noise squared" in refused(noisy, lambda x: torch.randn(3).square() + x)


def test_helpers_and_checks_in_the_wrong_place():
    with pytest.raises(RuntimeError, match="inside a check"):
        equal(1.0, 1.0, "never")
    assert "cannot run inside an answer" in refused(DOUBLE, lambda x: DOUBLE(lambda y: 2 * y))


def test_lessons_are_found_by_name():
    assert checks.forward.closed_form.exercise.name == "closed_form"
    with pytest.raises(AttributeError, match="no lesson 'absent'"):
        checks.absent  # noqa: B018
