#!/usr/bin/env python3
"""The official clients of OpenAI and Anthropic ask the fixture server at ADDRESS, and read its replies.

    check_endpoint.py ADDRESS

The test `endpoint` runs it where both are installed: in .venv, or for the Python that GIST_SDK_PYTHON names.
"""

import sys

import anthropic
import openai

address = sys.argv[1]
message = [{"role": "user", "content": "Anna hid 12 coins. How many coins did Anna hide?"}]

said = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0).chat.completions.create(
    model="m", messages=message, temperature=0, max_tokens=16
)
assert said.choices[0].message.content.split("\n")[0] == "12", said
assert said.choices[0].finish_reason == "stop" and said.object == "chat.completion", said
assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (17, 7), said.usage

said = anthropic.Anthropic(base_url=address, api_key="none", max_retries=0).messages.create(
    model="m", messages=message, max_tokens=16
)
assert said.content[0].type == "text" and said.content[0].text.split("\n")[0] == "12", said
assert said.stop_reason == "end_turn" and said.role == "assistant", said
assert (said.usage.input_tokens, said.usage.output_tokens) == (17, 7), said.usage
print("openai and anthropic read the server's replies")
