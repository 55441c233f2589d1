"""Each face once an epoch, in another order."""

from trainables.data.sampling import Sampler, each_once, in_random_order

SAMPLER = Sampler(each_once, in_random_order)
