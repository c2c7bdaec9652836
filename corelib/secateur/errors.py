"""One exception for each mistake that a user can mend.

All derive from :class:`SecateurError`, and each also from the built-in exception that fits, so that both
``except SecateurError`` and ``except ValueError`` work. A message names what is wrong, where, and what to do.
"""

from __future__ import annotations


class SecateurError(Exception):
    """Base of every error that Secateur raises on purpose."""


class InvalidTensorError(SecateurError, ValueError):
    """A tensor holds a value that cannot be ranked (NaN); names the tensor and the first position."""


class UnsupportedDtypeError(SecateurError, TypeError):
    """An array or weight of integers, complex numbers or another type that has no saliency order."""


class EmptyInputError(SecateurError, ValueError):
    """No array, or arrays without a single element, where at least one number is needed."""


class ShapeMismatchError(SecateurError, ValueError):
    """Two arrays, or an array and what it is meant for, have shapes that do not fit."""


class DeviceMismatchError(SecateurError, ValueError):
    """Arrays of one call lie on different devices."""


class ReadOnlyArrayError(SecateurError, ValueError):
    """An array that cannot be written was given to a call that works in place."""


class OutOfRangeError(SecateurError, ValueError):
    """A number outside its range: a percentile, a sparsity, a count, a step."""


class RecipeError(SecateurError, ValueError):
    """Parts of a recipe that contradict each other or that this version cannot combine."""


class EmptyLayerError(SecateurError, ValueError):
    """A recipe that would leave a layer without a single weight or neuron."""


class UnreachableTargetError(SecateurError, ValueError):
    """A target that is not met even when everything is removed that can go; names what is least and what stays."""


class NoMatchError(SecateurError, LookupError):
    """An include or exclude pattern, or a name, that matches nothing in the model."""


class ParametrizationError(SecateurError, ValueError):
    """A recipe chooses a weight that its layer computes from others, so that no mask would hold on it."""


class ModelTypeError(SecateurError, TypeError):
    """What was given as a model is none of the framework's: None, a state dict, a list of layers."""


class UnbuiltModelError(SecateurError, ValueError):
    """A model whose weights do not exist yet: an unbuilt Keras model, a lazy PyTorch module."""


class MissingWeightsError(SecateurError, ValueError):
    """A model whose weights hold no numbers, as on PyTorch's meta device."""


class MissingDataError(SecateurError, ValueError):
    """A score needs data, labels or a loss that the call did not give, or gave in a form that cannot be used."""


class ExampleError(SecateurError, ValueError):
    """An example input is missing, or the model does not accept it."""


class TraceError(SecateurError, ValueError):
    """The model's structure could not be read."""


class VerificationError(SecateurError, RuntimeError):
    """The model without the removed units gave other outputs than the masked one; nothing was kept."""


class HoldError(SecateurError, RuntimeError):
    """Masks cannot be held in this training: wrong optimizer, or a pruner used out of order."""


class MaskMismatchError(SecateurError, ValueError):
    """Models that are to become one prune different weights; names the parameters, and how many weights differ."""


class CopyError(SecateurError, TypeError):
    """A pruned model or pruner cannot be copied or pickled in this way; the message tells the way that works."""


class FileFormatError(SecateurError, ValueError):
    """A folder or file that Secateur did not write, is damaged, or belongs to another model."""


class MissingDependencyError(SecateurError, ImportError):
    """An optional package is not installed; the message gives the command that installs it."""


class DataNotFoundError(SecateurError, FileNotFoundError):
    """A data set is in none of the places where it is looked for."""


class WorkerError(SecateurError, RuntimeError):
    """A process that the demo started failed or ended; the message holds what it wrote last."""
