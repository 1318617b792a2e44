"""The tiers that ship, for tests that need specs and no discovery.

What belongs here: their specs and names. What does not: tiers made for a test.
"""

from milton_assets.tiers.discovery import SHIPPED
from milton_assets.vocabulary.tier_spec import Tiers

TIERS = Tiers(SHIPPED)
BUILT_IN = tuple(TIERS)
