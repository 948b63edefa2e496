"""The arguments that create_service accepts, and its messages about those that it refuses."""

import subprocess
import sys

import litellm
import pytest

from conduit_litellm import ConfigurationError, create_service
from conduit_litellm.service.models import DEFAULTS, deployments

KEYS = ("OPENAI", "ANTHROPIC", "GEMINI", "GOOGLE", "MISTRAL", "GROQ", "DEEPSEEK")


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch):
    monkeypatch.delenv("CONDUIT_MODELS", raising=False)
    for name in KEYS:
        monkeypatch.delenv(f"{name}_API_KEY", raising=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"execution_backend": "magic"}, "execution_backend='magic' must be one of litellm, pydantic_ai"),
        ({"models": "openai/gpt-4.1"}, "must be a list"),
        ({"models": []}, "leaves nothing to choose from"),
        ({"models": None}, "no models: name them .* CONDUIT_MODELS; .*OPENAI_API_KEY"),
        ({"models": [7]}, r"models\[0\]=7 must be a model's name or a mapping"),
        ({"models": [{"api_key": "k"}]}, r"models\[0\] names no 'model'"),
        ({"models": [{"model": "openai/x", "id": 7}]}, "id=7 must be a text"),
        ({"models": ["openai/x", "openai/x"]}, "'openai/x' is there twice"),
        ({"models": ["x"]}, "knows no provider of model 'x'"),
        ({"models": [f"openai/{number}" for number in range(300)]}, "has 300 entries"),
        ({"fallbacks": "openai/x"}, "fallbacks='openai/x' must be a list"),
        ({"fallbacks": [7]}, r"fallbacks\[0\]=7"),
        ({"retries": -1}, "retries=-1 must be 0 or more"),
        ({"timeout_s": 0.0}, "timeout_s=0.0 must be above 0"),
        ({"bandit": "linucb"}, "no argument 'bandit'; there are bandit_algorithm, "),
        ({"model_groups": ["a"]}, "no argument 'model_groups'"),
        ({"bandit_algorithm": "magic"}, "magic"),
        ({"default_result_type": object()}, "pydantic can validate"),
        ({"router_options": {"nonsense": 1}}, "Router refuses its settings: .*nonsense"),
        (
            {"execution_backend": "pydantic_ai", "router_options": {"cooldown_time": 1}},
            "router_options are for LiteLLM",
        ),
        ({"execution_backend": "pydantic_ai", "models": ["nobody:x"]}, "PydanticAI cannot use model 'nobody:x'"),
        ({"execution_backend": "pydantic_ai", "models": ["openai/x"]}, "OPENAI_API_KEY"),
        ({"execution_backend": "pydantic_ai", "models": ["cohere/x"]}, "needs a package that is not installed"),
        (
            {
                "execution_backend": "pydantic_ai",
                "models": [{"model": "deepseek/x", "api_key": "k", "api_base": "http://127.0.0.1"}],
            },
            "takes no base_url",
        ),
    ],
)
async def test_arguments_that_cannot_work(arguments, said, tmp_path):
    with pytest.raises(ConfigurationError, match=said):
        await create_service(**{"models": ["openai/gpt-4.1"], "log_path": tmp_path, "host_learner": False, **arguments})


async def test_without_models_those_of_the_environment_serve(monkeypatch, new_service):
    monkeypatch.setenv("GROQ_API_KEY", "k")
    usual = await new_service(execution_backend="litellm", default_result_type=dict)
    assert usual.supported_models() == ["groq/openai/gpt-oss-20b", "groq/openai/gpt-oss-120b"]
    monkeypatch.setenv("CONDUIT_MODELS", "openai/gpt-4.1, xai/grok-4")
    named = await new_service(execution_backend="litellm", default_result_type=dict)
    assert named.supported_models() == ["openai/gpt-4.1", "xai/grok-4"]


def test_the_usual_models_are_chat_models_that_have_a_price():
    for name in DEFAULTS:
        model, provider, _, _ = litellm.get_llm_provider(name)
        known = litellm.get_model_info(model, provider)
        assert known["mode"] == "chat" and known["output_cost_per_token"] > 0.0, name


def test_entries_of_a_model_list_are_taken_as_they_are():
    entry = {
        "model_name": "theirs",
        "litellm_params": {"model": "openai/gpt-4.1", "rpm": 5},
        "model_info": {"id": "x", "base_model": "gpt-4.1"},
    }
    (made,) = deployments([entry], "service")
    assert made == {**entry, "model_name": "service"}
    assert entry["model_name"] == "theirs"


async def test_keys_may_be_variables(monkeypatch, new_service, model, providers):
    monkeypatch.setenv("THE_KEY", "secret-7")
    for backend in ("litellm", "pydantic_ai"):
        service = await new_service(execution_backend=backend, models=[model("a", api_key="os.environ/THE_KEY")])
        await service.complete("Hello?")
    for _, headers, _ in providers.requests["openai-a"]:
        assert headers["Authorization"] == "Bearer secret-7"
    assert len(providers.requests["openai-a"]) == 2


@pytest.mark.process
def test_without_pydantic_ai_the_rest_works_and_the_error_says_what_to_install(tmp_path):
    program = f"""
import asyncio, sys
sys.modules["pydantic_ai"] = None
from conduit_litellm import ConfigurationError, create_service
settings = {{"models": ["openai/gpt-4.1"], "log_path": {str(tmp_path)!r}, "host_learner": False}}
asyncio.run(create_service(**settings))
try:
    asyncio.run(create_service(execution_backend="pydantic_ai", **settings))
except ConfigurationError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "needs pip install 'conduit-litellm[pydantic-ai]'" in done.stdout
