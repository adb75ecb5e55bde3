"""OpenAI's own client for Python: prints what it found as JSON; openai.mjs judges it."""

import json

import openai


def said(text):
    return {"model": "openclaw", "messages": [{"role": "user", "content": text}]}


def refusal(call):
    try:
        call()
    except openai.APIError as error:
        return type(error).__name__
    return "answered"


client = openai.OpenAI()
pieces = [
    chunk.choices[0].delta.content or ""
    for chunk in client.chat.completions.create(**said("streamed"), stream=True)
    if chunk.choices
]
tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
stranger = openai.OpenAI(api_key="wrong")
found = {
    "models": [model.id for model in client.models.list()],
    "completion": client.chat.completions.create(**said("from python")).choices[0].message.content,
    "stream": {"text": "".join(pieces), "pieces": len(pieces)},
    "response": client.responses.create(model="openclaw", input="a response").output_text,
    "tools": refusal(lambda: client.chat.completions.create(**said("x"), tools=[tool])),
    "stranger": refusal(lambda: stranger.chat.completions.create(**said("x"))),
}
print(json.dumps(found))
