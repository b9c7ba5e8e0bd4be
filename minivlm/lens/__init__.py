"""Looking into the model: traces of answers, drift of attention from layer to layer, figures."""
