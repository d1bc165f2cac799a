"""Cross-validation with groups: scorers that pass groups to `predict`, metadata requests, and known and new groups."""

from ._cross_validation import cross_validate_groups
from ._routing import coefficient_importances, request_groups
from ._scorers import GroupScorer, make_group_scorer

__all__ = ["GroupScorer", "coefficient_importances", "cross_validate_groups", "make_group_scorer", "request_groups"]
