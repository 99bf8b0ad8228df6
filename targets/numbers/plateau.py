"""The places of the state of ``plateau``, and how much of the past it holds."""

STAGE, EPOCHS, NORM, FILLED, WINDOW, SUM, SEEN = 0, 1, 2, 3, 4, 9, 10
WINDOW_LENGTH, NORM_EPOCHS = 5, 10
