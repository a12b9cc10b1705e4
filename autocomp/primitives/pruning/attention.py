"""``nn.MultiheadAttention`` as layers that can be traced, cut and rounded."""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import nn, ops

from autocomp.primitives.arguments import RULES
from autocomp.primitives.cells.layers import ms
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.surgery import rename_parameters, replace_cells
from autocomp.rules import checked


class Attention(nn.Cell):
    """Computes the same as a ``nn.MultiheadAttention``, with dense layers of its own for queries, keys and values.

    The number of heads follows from the sizes of these layers' outputs, so that whole heads can be cut. Inputs have a
    batch; a mask of three axes, with one mask for each head, is not supported.
    """

    def __init__(self, like: Any) -> None:
        super().__init__()
        self.head_dim, self.batch_first = like.head_dim, like.batch_first
        self.queries, self.keys, self.values = (_dense(weight, bias) for weight, bias in _projections(like))
        self.project = _dense(like.out_proj.weight.asnumpy(), _array(like.out_proj.bias))
        self.dropout = nn.Dropout(p=like.dropout)

    def construct(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
    ) -> Any:
        if not self.batch_first:
            query, key, value = query.swapaxes(0, 1), key.swapaxes(0, 1), value.swapaxes(0, 1)
        q, k, v = self._heads(self.queries(query)), self._heads(self.keys(key)), self._heads(self.values(value))
        scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) * self.head_dim**-0.5
        if attn_mask is not None:
            scores = _masked(scores, attn_mask)
        if key_padding_mask is not None:
            scores = _masked(scores, key_padding_mask.expand_dims(1).expand_dims(1))
        weights = self.dropout(ops.softmax(scores, -1))
        y = ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3))
        y = self.project(ops.reshape(y, (y.shape[0], y.shape[1], -1)))
        if not self.batch_first:
            y = y.swapaxes(0, 1)
        if not need_weights:
            return (y,)
        return y, ops.mean(weights, 1) if average_attn_weights else weights

    def _heads(self, x: Any) -> Any:
        return ops.transpose(ops.reshape(x, (x.shape[0], x.shape[1], -1, self.head_dim)), (0, 2, 1, 3))


@checked(RULES["open_attention"])
def open_attention(net: Any) -> Any:
    """A copy of the network in which every ``nn.MultiheadAttention`` has dense layers of its own, see
    :class:`Attention`: a search can round them, and cut their heads.

    This includes those in ``nn.TransformerEncoder``. Where there are none it is the network itself. Subclasses, and
    cells with ``add_bias_kv`` or ``add_zero_attn``, are not replaced. TypeError: net is no Cell.
    """
    twin = copy_network(net)
    found = {path: cell for path, cell in twin.cells_and_names() if _is_plain(cell)}
    if not found:
        return net
    names = {id(p): p.name for p in twin.get_parameters()}
    replace_cells(twin, {path: Attention(cell) for path, cell in found.items()})
    rename_parameters(twin, names)
    return twin.set_train(net.training)


def _is_plain(cell: Any) -> bool:
    return type(cell) is nn.MultiheadAttention and cell.bias_k is None and not cell.add_zero_attn


def _masked(scores: Any, mask: Any) -> Any:
    """mask: True or -inf at positions that are not attended to."""
    if mask.dtype == ms.bool_:
        return ops.masked_fill(scores, mask, float("-inf"))
    return scores + mask


def _projections(like: Any) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Weight and bias of queries, keys and values."""
    if like.in_proj_weight is not None:
        weights = np.split(like.in_proj_weight.asnumpy(), 3)
    else:
        weights = [w.asnumpy() for w in (like.q_proj_weight, like.k_proj_weight, like.v_proj_weight)]
    bias = _array(like.in_proj_bias)
    biases: list[np.ndarray | None] = [None] * 3 if bias is None else list(np.split(bias, 3))
    return list(zip(weights, biases, strict=True))


def _array(parameter: Any) -> np.ndarray | None:
    return None if parameter is None else np.asarray(parameter.asnumpy())


def _dense(weight: np.ndarray, bias: np.ndarray | None) -> Any:
    given = {} if bias is None else {"bias_init": ms.Tensor(np.ascontiguousarray(bias))}
    outputs, inputs = weight.shape
    return nn.Dense(inputs, outputs, ms.Tensor(np.ascontiguousarray(weight)), has_bias=bias is not None, **given)
