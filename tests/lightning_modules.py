"""A Lightning module, and one that calls its optimizer itself. Importing this file imports Lightning: three seconds."""

from __future__ import annotations

import pytorch_lightning
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- its usual name

#: Three rows, the example that each model carries.
X = torch.randn(3, 4)


class Classifier(pytorch_lightning.LightningModule):
    def __init__(self, rate=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5))
        self.example_input_array = X

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_index):
        x, labels = batch
        loss = F.cross_entropy(self(x), labels)
        self.log("loss", loss, prog_bar=True)
        self.log_dict({"again": loss})
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.hparams.rate)


class Manual(Classifier):
    """A classifier whose training step calls the optimizer itself."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_index):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_index))
        optimizer.step()


def fitted(model):
    trainer = pytorch_lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, torch.utils.data.DataLoader([(X[0], torch.tensor(0))] * 2, batch_size=2))
    return model
