"""Write the first member as a model of scikit-learn: `python as_sklearn.py WEIGHTS FILE.joblib CLASSES`."""

from __future__ import annotations

import sys

import joblib
import numpy as np
from ensemble import Ensemble
from sklearn.linear_model import LogisticRegression

weights, file, classes = sys.argv[1:]
ensemble = Ensemble(weights)
model = LogisticRegression()
model.classes_ = np.array(classes.split(","))
model.coef_ = (ensemble.weights[0] / ensemble.std[:, None]).T
model.intercept_ = ensemble.offsets[0, 0] - ensemble.mean @ model.coef_.T
model.n_features_in_ = len(ensemble.mean)
joblib.dump(model, file)
