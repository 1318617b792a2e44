"""The probe that bundling measures a health contract with, and that deploying holds a device to.

What belongs here: putting the edge's model server and its client together. What does not: either of them.
"""

from milton_assets.edge.deployment import ServedLoadTest
from resources.edge_server import EdgeServer
from resources.model_server import LlamaCppResource
from resources.servers.client import OpenAIChatModel


def edge_probe(edge_runtime: LlamaCppResource) -> ServedLoadTest:
    """A load test that serves GGUFs as the edge runtime is configured, and Hugging Face directories with vLLM."""
    return ServedLoadTest(EdgeServer(file=edge_runtime.server()), OpenAIChatModel)
