"""Grade distributions of sperm clips: networks, training, data, and the grader that runs them."""
