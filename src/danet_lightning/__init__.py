"""DANet, the Dual Attention Network for Scene Segmentation, on PyTorch Lightning and Hydra."""
