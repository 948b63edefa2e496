from random import Random

import numpy as np
import pytest

from conduit_demo.functions import FUNCTIONS, passes
from conduit_demo.tasks import TASKS, answer, compose, grade


@pytest.mark.parametrize("task", TASKS)
def test_the_grade_is_the_share_of_right_parts_whatever_they_are(task: str) -> None:
    for seed in range(120):
        random = Random(seed)
        prompt = compose(random, task, random.gauss(0.0, 1.5))
        correct = [random.random() < 0.5 for _ in prompt.right]
        assert grade(prompt, answer(prompt, correct)) == pytest.approx(sum(correct) / len(correct)), prompt.text


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "text", ["", "I cannot help with that.", "{", "[1, 2]", "```python\nimport nothing_of_this_name\n```"]
)
def test_what_is_no_answer_is_worth_nothing(task: str, text: str) -> None:
    assert grade(compose(Random(3), task, 0.0), text) == 0.0


@pytest.mark.parametrize("task", TASKS)
def test_prompts_vary_and_never_name_their_task(task: str) -> None:
    random = Random(5)
    texts = [compose(random, task, 0.0).text for _ in range(200)]
    assert len(set(texts)) == 200
    assert len({text.split()[0] for text in texts}) > 8
    assert compose(Random(9), task, 0.0) == compose(Random(9), task, 0.0)


@pytest.mark.parametrize("task", TASKS)
def test_harder_prompts_are_longer(task: str) -> None:
    lengths = [np.mean([len(compose(Random(seed), task, d).text) for seed in range(40)]) for d in (-2.0, 0.0, 2.0)]
    assert lengths[0] < lengths[1] < lengths[2]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.arguments + function.told[:12])
@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_the_unit_tests_tell_right_code_from_wrong(function: object, number: int) -> None:
    header = f"def answer({function.arguments}):\n"  # type: ignore[attr-defined]  # a Function, hidden from pytest's ids
    right = header + function.right.replace("N", str(number))  # type: ignore[attr-defined]  # as above
    wrong = header + function.wrong.replace("N", str(number))  # type: ignore[attr-defined]  # as above
    assert passes(right, "answer", function, number)  # type: ignore[arg-type]  # as above
    assert not passes(wrong, "answer", function, number)  # type: ignore[arg-type]  # as above
    assert not passes(right, "another_name", function, number)  # type: ignore[arg-type]  # as above
