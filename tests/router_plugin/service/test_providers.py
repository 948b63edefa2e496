"""Every provider's own protocol, through LiteLLM, against one local server."""

import pytest
from provider_server import INPUT_TOKENS, OUTPUT_TOKENS

AWS = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "aws_region_name": "us-east-1"}
ROUTES = {
    "openai": ({"model": "openai/gpt-4.1", "api_base": "/v1"}, "v1/chat/completions", "messages"),
    "anthropic": ({"model": "anthropic/claude-sonnet-4-5", "api_base": ""}, "v1/messages", "messages"),
    "gemini": (
        {"model": "gemini/gemini-2.5-flash", "api_base": "/v1beta"},
        "v1beta/models/gemini-2.5-flash:generateContent",
        "contents",
    ),
    "cohere": ({"model": "cohere_chat/command-r-plus-08-2024", "api_base": "/v2/chat"}, "v2/chat", "messages"),
    "mistral": ({"model": "mistral/mistral-small-latest", "api_base": "/v1"}, "v1/chat/completions", "messages"),
    "groq": (
        {"model": "groq/openai/gpt-oss-120b", "api_base": "/openai/v1"},
        "openai/v1/chat/completions",
        "messages",
    ),
    "azure": (
        {"model": "azure/gpt-4.1", "api_base": "", "api_version": "2024-10-21"},
        "openai/deployments/gpt-4.1/chat/completions",
        "messages",
    ),
    "ollama": ({"model": "ollama_chat/llama3.1", "api_base": ""}, "api/chat", "messages"),
    "vllm": ({"model": "hosted_vllm/mine", "api_base": "/v1"}, "v1/chat/completions", "messages"),
    "bedrock": (
        {"model": "bedrock/anthropic.claude-3-5-sonnet-20240620-v1:0", "aws_bedrock_runtime_endpoint": "", **AWS},
        "model/anthropic.claude-3-5-sonnet-20240620-v1:0/converse",
        "messages",
    ),
    "deepseek": ({"model": "deepseek/deepseek-chat", "api_base": ""}, "chat/completions", "messages"),
    "openrouter": (
        {"model": "openrouter/openai/gpt-4.1", "api_base": "/api/v1"},
        "api/v1/chat/completions",
        "messages",
    ),
    "xai": ({"model": "xai/grok-3", "api_base": "/v1"}, "v1/chat/completions", "messages"),
    "together": (
        {"model": "together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo", "api_base": "/v1"},
        "v1/chat/completions",
        "messages",
    ),
}
UNPRICED = {"ollama", "vllm", "openrouter", "xai"}


@pytest.mark.parametrize("provider", ROUTES)
async def test_a_request_reaches_its_provider_in_its_own_words(provider, providers, new_service, events):
    params, path, where = ROUTES[provider]
    base = "aws_bedrock_runtime_endpoint" if provider == "bedrock" else "api_base"
    deployment = {**params, base: f"{providers.url}/{provider}{params[base]}"}
    if provider != "bedrock":
        deployment["api_key"] = "the-key"
    service = await new_service(models=[deployment], retries=0)
    answer = await service.complete("What is 17 * 23?", max_tokens=50)
    assert (answer.data, answer.text, answer.model) == ("hello", "hello", params["model"])
    assert (answer.input_tokens, answer.output_tokens) == (INPUT_TOKENS, OUTPUT_TOKENS)
    assert (answer.cost_usd is None) or answer.cost_usd > 0.0
    assert (answer.cost_usd is None) <= (provider in UNPRICED)
    ((asked, headers, body),) = providers.requests[provider]
    assert asked == path and "17 * 23" in str(body[where])
    secret = "AWS4-HMAC-SHA256" if provider == "bedrock" else "the-key"
    assert secret in str(headers)
    (outcome,) = await events.outcomes(service.strategy, 1)
    assert (outcome.decision_id, outcome.status) == (answer.decision_id, "success")
    assert (outcome.cost_usd, outcome.input_tokens) == (answer.cost_usd, INPUT_TOKENS)
