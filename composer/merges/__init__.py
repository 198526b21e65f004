"""Merges: several adapters made into one, in weight space. Pure functions on tensors: no files, no models, no devices.

Every merge takes its members with their weights, folded into the deltas before anything else, so that a weight means
the same to all of them. A member of weight 0 is left out; a layer that a member lacks is a delta of zero; a merge of
one member is that member, since there is nothing to reconcile. The result's digest is that of its recipe.
"""
