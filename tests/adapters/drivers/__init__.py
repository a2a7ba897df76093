"""One driver per framework for the conformance test."""
