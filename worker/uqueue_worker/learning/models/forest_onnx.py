"""A forest as an ONNX file that answers with every tree's probabilities.

One TreeEnsembleRegressor has a target for each tree and class: the leaves of tree m write targets m*K … m*K + K - 1, so
that no two trees are ever added up. A Reshape makes (rows, trees, K) of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_worker.artifacts.ensemble_ports import INPUT, OUTPUT
from uqueue_worker.learning.errors import UnsupportedModelFormat
from uqueue_worker.learning.models.training import FittedForest

_OPSET, _ML_OPSET, _IR_VERSION = 17, 3, 8
_NODES = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
_TARGETS = ("treeids", "nodeids", "ids", "weights")


def forest_onnx(fitted: FittedForest) -> bytes:
    """Return the file: `features` float32 (rows, columns) in, `members` float32 (rows, trees, K) out.

    The probabilities are scikit-learn's, rounded to float32. The same forest gives the same bytes.
    """
    onnx = _onnx()
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    trees = [one.tree_ for one in fitted.forest.estimators_]
    n_trees, n_classes = len(trees), len(fitted.classes)
    columns = fitted.forest.classes_.tolist()
    attributes = _attributes([_tree(tree, number, columns, n_classes) for number, tree in enumerate(trees)])
    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        [INPUT],
        ["flat"],
        domain="ai.onnx.ml",
        aggregate_function="SUM",
        n_targets=n_trees * n_classes,
        post_transform="NONE",
        **attributes,
    )
    shape = helper.make_tensor("shape", onnx.TensorProto.INT64, [3], [0, n_trees, n_classes])  # 0 keeps the rows
    graph = helper.make_graph(
        [ensemble, helper.make_node("Reshape", ["flat", "shape"], [OUTPUT])],
        "forest",
        [helper.make_tensor_value_info(INPUT, floats, ["rows", int(fitted.forest.n_features_in_)])],
        [helper.make_tensor_value_info(OUTPUT, floats, ["rows", n_trees, n_classes])],
        [shape],
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    model = helper.make_model(graph, producer_name="uqueue", opset_imports=opsets, ir_version=_IR_VERSION)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def float32_threshold(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest float32 that is not above each threshold: float32 x <= one exactly where x <= the other."""
    rounded = thresholds.astype(np.float32)
    above = rounded.astype(np.float64) > thresholds
    return np.where(above, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def _tree(tree: Any, number: int, columns: list[int], n_classes: int) -> dict[str, NDArray[Any]]:
    """Return one tree as arrays: of its nodes, and of its leaves' targets."""
    nodes = np.arange(tree.node_count)
    leaf = tree.children_left < 0
    shares = tree.value[:, 0, :] / tree.value[:, 0, :].sum(axis=1, keepdims=True)
    at_leaf, share = np.nonzero((shares > 0) & leaf[:, None])
    return {
        "nodes_treeids": np.full(len(nodes), number),
        "nodes_nodeids": nodes,
        "nodes_featureids": np.where(leaf, 0, tree.feature),
        "nodes_values": np.where(leaf, np.float32(0), float32_threshold(tree.threshold)),
        "nodes_modes": np.where(leaf, "LEAF", "BRANCH_LEQ"),
        "nodes_truenodeids": np.where(leaf, 0, tree.children_left),
        "nodes_falsenodeids": np.where(leaf, 0, tree.children_right),
        "target_treeids": np.full(len(at_leaf), number),
        "target_nodeids": at_leaf,
        "target_ids": number * n_classes + np.array(columns)[share],
        "target_weights": shares[at_leaf, share].astype(np.float32),
    }


def _attributes(trees: list[dict[str, NDArray[Any]]]) -> dict[str, list[Any]]:
    names = [f"nodes_{name}" for name in _NODES] + [f"target_{name}" for name in _TARGETS]
    return {name: np.concatenate([tree[name] for tree in trees]).tolist() for name in names}


def _onnx() -> Any:
    try:
        import onnx
        import onnx.helper
    except ImportError:
        reason = 'onnx is not installed here: pip install "uqueue[learning]"'
        raise UnsupportedModelFormat(file="model.onnx", reason=reason) from None
    return onnx
