"""Model servers: starting them, attaching to them, naming them, and talking to them.

What belongs here: one module a server (`llama_cpp`, `vllm`, `attached`), and what they share: `process` (a child that
never outlives us), `probe` (what a server says of itself), `identity` (is it the model it should be?) and `client`
(chat completions over HTTP). What does not: Dagster (see `resources.model_server`) and measuring
(`milton_assets.tiers.inference`).
"""
