"""From a config and a table's facts to the network a trial trains."""

from pathlib import Path

from spaces.config import TrialConfig
from trainables.checkpoint import NetworkSpec, load_spec
from trainables.data.table import DatasetInfo
from trainables.models.architectures.design import Design
from trainables.models.architectures.deviation import DeviationEncoder
from trainables.models.architectures.network import ExpressionNetwork
from trainables.models.architectures.two_branch import TwoBranchEncoder
from trainables.models.backbones import backbone_normalisation, build_network, check_image_px, stride_to_keep
from trainables.models.depthwise import use_quick_depthwise
from trainables.models.freezing import freeze
from trainables.models.start import load_start
from trainables.models.weights import load_backbone_weights


def build_trial_network(config: TrialConfig, info: DatasetInfo) -> tuple[ExpressionNetwork, NetworkSpec]:
    """A network with its weights filled in and its frozen part standing still, and how it is fed.

    Raises:
        ModelError: a backbone is unknown, or its weights or the size of its images do not fit.
    """
    model = config.model
    image_px = model.image_px or info.image_px
    design = design_of(config, image_px=image_px)
    network = build_network(
        model.backbone,
        n_classes=len(info.classes),
        design=design,
        drop_rate=model.drop_rate,
        drop_path_rate=model.drop_path_rate,
    )
    check_image_px(network.encoder.backbone, name=model.backbone, image_px=image_px)
    mean, std = _normalisation(config, info, network)
    spec = NetworkSpec(
        backbone=model.backbone,
        classes=tuple(info.classes),
        image_px=image_px,
        table_px=info.image_px,
        channels=info.channels,
        mean=mean,
        std=std,
        mirror=model.mirror,
        design=design,
    )
    _fill(network, spec, config)
    freeze(network, config.train)
    use_quick_depthwise(network)
    return network, spec


def design_of(config: TrialConfig, *, image_px: int) -> Design:
    """What a config says of the parts of a network that sees images of this side."""
    attention, branches, affect = config.attention, config.branches, config.affect
    is_two_branch = config.model.encoder == "two_branch"
    return Design(
        encoder=config.model.encoder,
        stride=stride_to_keep(config.model.backbone, image_px=image_px, min_map=config.model.min_map),
        attention_heads=attention.heads,
        attention_width=attention.width,
        attention_fusion=attention.fusion,
        logit_norm=attention.logit_norm,
        deviation_eps=config.deviation.eps,
        deviation_eps_when=config.deviation.eps_when,
        emotion=branches.emotion,
        appearance_backbone=branches.appearance_backbone if is_two_branch else "",
        trunk_width=branches.trunk_width,
        trunk_width_2=branches.trunk_width_2,
        head_width=config.model.head_width,
        landmarks=config.loss.landmark_weight > 0,
        affect=affect.heads,
        expression_inputs=affect.expression_inputs,
        va_inputs=affect.va_inputs,
        unit_inputs=affect.unit_inputs,
        unit_width=affect.unit_width,
        hand_backbone="" if config.hand.backbone == "none" else config.hand.backbone,
    )


def _fill(network: ExpressionNetwork, spec: NetworkSpec, config: TrialConfig) -> None:
    """Weights from hubs, files, or a model that was trained before."""
    model, encoder = config.model, network.encoder
    load_backbone_weights(encoder.backbone, name=model.backbone, weights=model.weights)
    if isinstance(encoder, TwoBranchEncoder):
        branches = config.branches
        load_backbone_weights(
            encoder.appearance, name=branches.appearance_backbone, weights=branches.appearance_weights
        )
    if network.hand is not None:
        load_backbone_weights(network.hand.backbone, name=config.hand.backbone, weights=config.hand.weights)
    taken = [] if model.start == "none" else load_start(network, spec, Path(model.start).expanduser())
    has_own_twin = any(name.startswith("encoder.frozen.") for name in taken)  # of a deviation that goes on
    if isinstance(encoder, DeviationEncoder) and not has_own_twin:
        encoder.equal_twins()


def _normalisation(
    config: TrialConfig, info: DatasetInfo, network: ExpressionNetwork
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    whose, start = config.data.normalise, config.model.start
    if whose == "auto" and start != "none":
        seen = load_spec(Path(start).expanduser())
        return seen.mean, seen.std
    if whose == "backbone" or (whose == "auto" and config.model.weights != "none"):
        return backbone_normalisation(network.encoder.backbone)
    repeats = 3 // info.channels
    return tuple(info.mean) * repeats, tuple(max(s, 1e-3) for s in info.std) * repeats
