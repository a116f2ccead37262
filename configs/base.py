"""Every field a run has, with its default. A config file takes `base.get_config()` and changes what it needs.

Durations are counted in clips and in fractions of a run, never in steps. Tuples, not lists: flags can override them.
"""
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The base run: a small diffusion transformer on cached latents of the physics worlds."""
    config = ConfigDict()
    config.name = "base"
    config.stage = "dit"  # "dit" or "vae"
    config.seed = 0
    config.dtype = "float32"  # compute dtype; parameters stay float32

    config.data = data = ConfigDict()
    data.name = "physics"  # a file of sora_jax/datasets
    data.path = ""  # folder of videos, or of latents with one folder per split
    data.manifest = ""  # videos: CSV, JSONL or Parquet; empty: sidecar .txt files
    data.fit = "center"  # videos: "center" crop, "native" size, or "zoom": crops of all sizes
    data.quarantine = ""  # videos: where what cannot be read is listed; empty: runs/quarantine.jsonl
    data.windows = 1  # videos: clips cut from each file, spread evenly over what is used of it
    data.span = (0.0, 1.0)  # videos: the part of each file that is used, as fractions of its length
    data.held_span = ()  # videos: the part of each file that is held out; empty: a twentieth of the files, by name
    data.cache = 2**28  # videos: bytes of decoded clips that are kept in memory
    data.images = ""  # latents of one-frame clips to train on beside the others, one folder per split; see train.images
    data.native = ()  # folders of latents of other sizes, packed into rows with those of data.path: train.pack_tokens
    data.states = ""  # latents: folder of captions' states, made by launch.captions, for text.name="given"
    data.vae_hash = ""  # latents: the autoencoder they must come from; empty: any
    data.split = "train"
    data.frames, data.height, data.width, data.fps = 17, 64, 64, 8.0
    data.families = ("uniform", "bounce", "collision", "parabola", "occluder", "composition", "pan")
    data.weights = (4.0, 1.0, 1.0, 1.0, 1.0, 4.0, 1.0)
    data.counts = (1, 2, 2, 3)  # objects of a composition, each number as likely as the next
    data.colours = ()  # names, each as likely as the next; empty: the eight of the palette
    data.aspect = 0.0  # width of the world in heights, of which clips show the middle; 0: as wide as they are
    data.language = "en"  # "en", "zh" or "both"
    data.caption = "short"  # "short", "dense" or "both"
    data.crop = 0  # VAE training: side of a random window, 0 = whole frames
    data.crop_frames = 0
    data.seed = 0

    config.vae = vae = ConfigDict()
    vae.name = "video_vae"
    vae.weights = "experiments/000_autoencoder/weights.safetensors"
    vae.patch = 4  # of pixels, in front of all; a (height, width) pair where they differ
    vae.time = (2, 2)  # reduction in time between stages
    vae.space = (2, 1)  # reduction in space between stages, each a number or a (height, width) pair
    vae.encoder = (64, 96, 128)
    vae.decoder = (96, 128, 192)
    vae.blocks = 1
    vae.block = "2+1d"  # one convolution in space and one in time, or "3d": two full ones
    vae.attention = 0  # heads of the attention in each frame where frames are smallest; 0: none
    vae.channels = 16
    vae.conv = "auto"  # "native" conv3d, "taps": conv2d of frames, or by backend

    config.critic = critic = ConfigDict()  # of autoencoders whose objective gives it a weight
    critic.name = "critic"
    critic.patch, critic.width, critic.depth = 4, 32, 2

    config.model = model = ConfigDict()
    model.name = "dit"
    model.size = "w64d4"  # name of the row in configs/ladder.py
    model.width, model.depth, model.heads = 64, 4, 4
    model.patch = (1, 2, 2)
    model.mlp_ratio, model.hidden = 4, 0  # width of the MLP, in times of model.width; or as it is
    model.mlp = "gelu"  # or "swiglu"
    model.modulation = "block"  # adaLN-Zero of each block, or "single": one for all, and a table in each
    model.text = "cross"  # how tokens read the caption: "cross" attention, "joint" streams, "prefix" tokens, "none"
    model.pooled = "linear"  # its mean joins the noise level through a projection, "direct" as it is, or "none"
    model.caption_mlp, model.cross_norm = False, False  # two layers on the caption's states; gains before reading them
    model.qk_norm = "head"  # of queries and keys: one gain a number of a head, "full": of all heads, or "none"
    model.positions = "sincos+rotary"  # or "none", "learned", "sincos-2d", "sincos", "rotary"
    model.rope_theta = 100.0
    model.attention = "full"  # or "factorised" over space and time, or "windowed"
    model.window = (2, 4, 4)  # frames, rows and columns of a window, in tokens
    model.time_shift, model.time_ends = 0.0, False  # of published weights: added to 1000 t; its last frequency
    model.variance = False  # outputs of a variance beside the prediction, which published weights have
    model.remat = "dots"  # "none", "dots" or "full"

    config.lora = lora = ConfigDict()
    lora.rank = 0  # of adapters beside the weights of train.start, which are then frozen; 0: none
    lora.alpha = 8.0  # adapters count alpha / rank times
    lora.targets = ("qkv", "out", "cross_q", "cross_kv", "cross_out", "up", "down")  # layers, or patterns of them

    config.text = text = ConfigDict()
    text.name = "text"
    text.width, text.depth, text.heads = 64, 2, 4
    text.length, text.pool = 96, 4  # bytes of a caption, bytes a state

    config.objective = objective = ConfigDict()
    objective.name = "flow"
    objective.kind = ""  # what the network predicts: x0, eps, v, flow or edm; empty: the objective's own
    objective.weight = "none"  # of the squared error: "min-snr", or "edm": the lambda of Karras et al. on x0
    objective.gamma = 5.0  # min-snr: the signal-to-noise ratio above which no weight grows
    objective.shift_tokens = 0  # tokens of a clip whose times are not shifted; more shift towards noise; 0: no shift
    objective.time = "logit_normal"  # flow: training times sigmoid(mean + std z), or "mode" (with scale), or "uniform"
    objective.mean, objective.std = 0.6, 1.4
    objective.scale = 1.29
    objective.schedule = "linear"  # ddpm: betas, or "cosine"
    objective.steps, objective.beta_min, objective.beta_max = 1000, 1e-4, 0.02
    objective.zero_terminal = False  # ddpm: a linear chain rescaled to end in noise alone, for kind v or x0
    objective.p_mean, objective.p_std = -0.507, 1.2  # edm: of the log of the noise level
    objective.sigma_min, objective.sigma_max, objective.rho = 0.004, 160.0, 7.0  # edm: levels, in units of the data
    objective.caption_drop = 0.1
    objective.known = (0.8, 0.08, 0.03, 0.03, 0.03, 0.03)  # none, first, last, ends, frames, box
    objective.known_noise = 0.0  # latest time of the noise on known tokens, drawn uniformly for each clip; 0: clean
    objective.levels = "two"  # known tokens and the others; or "frame": each latent frame has a time of its own

    config.sampler = sampler = ConfigDict()
    sampler.name = "heun"
    sampler.steps, sampler.guidance, sampler.shift = 25, 3.0, 1.0
    sampler.interpolate = False  # clips larger than those trained on: positions squeezed into theirs
    sampler.grid = "shifted"  # times, shifted by `shift`; or "karras" or "log-snr", which it does not move
    sampler.eta = 0.0  # ddim: share of the predicted noise that is drawn anew, 1: ancestral sampling
    sampler.guidance_known = 1.0  # scale of the known tokens; 1: always shown, other values cost a third prediction
    sampler.rescale = 0.0  # share of the guided prediction that is brought to the conditional's standard deviation
    sampler.interval = (0.0, 1.0)  # times t between which there is guidance
    sampler.zero_star = False  # the unconditional prediction is first scaled to lie nearest to the conditional
    sampler.zero_steps = 0  # first steps of the sampler that are not walked
    sampler.known_noise = 0.0  # time of the noise on known tokens while sampling; they leave clean
    sampler.lag = 0  # ddim: steps that each latent frame is behind the one before it; 0: all frames together

    config.optimizer = optimizer = ConfigDict()
    optimizer.lr = 2e-3
    optimizer.beta1, optimizer.beta2, optimizer.eps = 0.9, 0.99, 1e-8
    optimizer.muon = 0.0  # Muon on matrices of blocks and 3-D kernels, at this many times lr; 0: AdamW only
    optimizer.widths = "none"  # or "mup": the rate was tuned at base_width and is carried from there to model.width
    optimizer.base_width = 96
    optimizer.critic, optimizer.critic_beta1 = 1.0, 0.5  # a critic's rate, in times of lr, and momentum
    optimizer.weight_decay, optimizer.clip = 0.0, 1.0
    optimizer.warmup = 0.02  # fraction of the run
    optimizer.cooldown = 0.2  # last fraction of the run
    optimizer.shape = "1-sqrt"  # or "linear"

    config.ema = ema = ConfigDict()
    ema.horizon = 0.05  # relative length sigma_rel of the power-function average

    config.train = train = ConfigDict()
    train.clips, train.batch = 32_000, 32
    train.images = 0  # one-frame clips beside each clip, from data.images
    train.pack_tokens, train.pack_clips = 0, 8  # rows of so many tokens hold clips of any sizes, at most so many; 0: no
    # rows. With rows, train.clips and train.batch count rows
    train.start = ""  # weights to begin from: a run folder or a weights file; empty: the seed's
    train.log, train.evaluate, train.save = 0.005, 0.1, 0.1  # every such fraction of the run
    train.branches = ()  # stop points, as fractions of the run, that get a cooldown branch of their own

    config.eval = evaluation = ConfigDict()
    evaluation.clips, evaluation.times = 256, 8
    evaluation.seed = 1234
    evaluation.matched = False  # also the error at the times and on the scale of flow, whatever the objective
    evaluation.velocity = 0  # clips of uniform motion, in and out of distribution, that annealed weights go on from

    config.mesh = mesh = ConfigDict()
    mesh.data, mesh.fsdp, mesh.tensor, mesh.sequence = 1, 1, 1, 1
    return config
