"""Running exported models: one predictor in front of several backends."""
