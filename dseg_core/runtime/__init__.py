"""Running exported models: one predictor in front of several backends.

Light on purpose, since it runs in the car: it needs numpy, OpenCV and the backend's own library; torch and everything
else that learning needs stay out unless the torch backend is asked for.
"""
