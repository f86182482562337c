"""`export`: an ONNX file with a parity report, or a folder for the Hugging Face hub."""
