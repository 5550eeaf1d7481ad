"""Models named by text: `mypkg.net:build`, `hf:gpt2`, `timm:resnet50`, `model.pt2`."""
