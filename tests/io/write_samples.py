"""Writes small weight files of every kind that graft reads or must refuse, with what reading them has to give.

    write_samples.py FOLDER          writes the files and FOLDER/samples.json
    write_samples.py FOLDER --check  reads FOLDER/written.* , which graft wrote, with the packages that define the formats

samples.json: {"read": {file: {"format", "layers": [{"name", "tensors": [{"name", "dtype", "shape", "hex"}]}]}}, "refuse": {file: part of the message}}
"""

import collections
import json
import os
import pathlib
import struct
import sys
import zipfile

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import h5py
import numpy as np
import safetensors.torch
import torch

folder = pathlib.Path(sys.argv[1])
random = np.random.default_rng(1)
samples = {"read": {}, "refuse": {}}
DTYPES = {"float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16", "int32": "i32", "int64": "i64", "uint8": "u8"}


def entry(name, value):
    """A tensor as samples.json describes it; bf16 comes as a torch tensor."""
    if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16:
        return {"name": name, "dtype": "bf16", "shape": list(value.shape), "hex": value.contiguous().view(torch.int16).numpy().tobytes().hex()}
    value = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    native = np.ascontiguousarray(value, value.dtype.newbyteorder("="))
    return {"name": name, "dtype": DTYPES[native.dtype.name], "shape": list(value.shape), "hex": native.tobytes().hex()}


def expect(file, form, layers):
    """layers: {layer: {variable: value}}, in order."""
    samples["read"][file] = {
        "format": form,
        "layers": [{"name": name, "tensors": [entry(v, value) for v, value in tensors.items()]} for name, tensors in layers.items()],
    }


def refuse(file, message):
    samples["refuse"][file] = message


def values(*shape, dtype="float32"):
    return random.standard_normal(shape).astype(dtype)


def batch_norm(channels):
    return {name: values(channels) for name in ("gamma", "beta", "moving_mean", "moving_variance")}


# ---- legacy HDF5, written by hand as the eras wrote it

LAYERS = {
    "conv1": {"kernel": values(3, 3, 2, 4), "bias": values(4)},
    "bn": batch_norm(4),
    "conv10": {"kernel": values(1, 1, 4, 2)},
    "conv2": {"kernel": values(1, 1, 2, 2)},
}
KERAS1 = {"kernel": "W", "bias": "b", "moving_mean": "running_mean", "moving_variance": "running_std"}


def legacy_name(era, layer, variable):
    if era == 1:
        return f"{layer}_{KERAS1.get(variable, variable)}_1:0"
    return f"{layer}/{variable}:0" if era == 2 else f"{layer}/{variable}"


def write_legacy(file, era, layers=LAYERS, root="", names=np.bytes_, chunk=None, weightless=("input",), **dataset):
    def set_names(group, attribute, texts):
        if not texts:
            group.attrs[attribute] = np.zeros(0)  # how h5py writes an empty list
        elif names is np.bytes_:
            texts = np.array(texts, "S")
            for k in range(0, len(texts), chunk or len(texts)):
                group.attrs[f"{attribute}{k // chunk}" if chunk else attribute] = texts[k : k + (chunk or len(texts))]
        else:
            group.attrs.create(attribute, texts, dtype=h5py.string_dtype("ascii"))

    with h5py.File(folder / file, "w", **({"userblock_size": 1024} if "user_block" in file else {}), libver="latest" if "latest" in file else None) as f:
        top = f.create_group(root) if root else f
        if era > 1:
            top.attrs["keras_version"] = np.bytes_("2.2.4") if era == 2 else "3.0.0"
        set_names(top, "layer_names", [*weightless, *layers])
        for layer in weightless:
            set_names(top.create_group(layer), "weight_names", [])
        for layer, tensors in layers.items():
            group = top.create_group(layer)
            set_names(group, "weight_names", [legacy_name(era, layer, v) for v in tensors])
            for variable, value in tensors.items():
                group.create_dataset(legacy_name(era, layer, variable), data=value, **dataset)


def legacy_samples():
    for era in (1, 2, 3):
        for names in (np.bytes_, str):
            file = f"legacy_keras{era}_{'fixed' if names is np.bytes_ else 'varying'}.h5"
            write_legacy(file, era, names=names)
            expect(file, "keras-legacy-weights", LAYERS)
    write_legacy("legacy_split_lists.h5", 2, chunk=2)
    write_legacy("legacy_compressed.h5", 2, compression="gzip", shuffle=True, fletcher32=True, chunks=True)
    write_legacy("legacy_latest.h5", 3)
    write_legacy("legacy_user_block.h5", 2)
    for file in ("legacy_split_lists.h5", "legacy_compressed.h5", "legacy_latest.h5", "legacy_user_block.h5"):
        expect(file, "keras-legacy-weights", LAYERS)
    write_legacy("legacy_model_by_hand.h5", 2, root="model_weights")
    expect("legacy_model_by_hand.h5", "keras-legacy-model", LAYERS)
    for dtype in (">f4", ">f8", "<f2", ">f2", "<f8"):
        layers = {"conv": {"kernel": values(2, 2, 3, 1, dtype=dtype), "bias": values(1, dtype=dtype)}}
        file = f"legacy_{'big' if dtype[0] == '>' else 'little'}_f{8 * int(dtype[2])}.h5"
        write_legacy(file, 2, layers)
        expect(file, "keras-legacy-weights", layers)
    scoped = {"conv1": {"kernel": values(1, 1, 1, 1)}}
    with h5py.File(folder / "legacy_scoped.h5", "w") as f:  # a name that TensorFlow made unique
        f.attrs["layer_names"] = np.array(["conv1"], "S")
        f.create_group("conv1").attrs["weight_names"] = np.array(["training/conv1_1/kernel_2:0"], "S")
        f["conv1"]["training/conv1_1/kernel_2:0"] = scoped["conv1"]["kernel"]
    expect("legacy_scoped.h5", "keras-legacy-weights", scoped)
    depthwise = {"dw": {"kernel": values(3, 3, 2, 1)}}
    with h5py.File(folder / "legacy_depthwise.h5", "w") as f:
        f.attrs["layer_names"] = np.array(["dw"], "S")
        f.create_group("dw").attrs["weight_names"] = np.array(["dw/depthwise_kernel:0"], "S")
        f["dw"]["dw/depthwise_kernel:0"] = depthwise["dw"]["kernel"]
    expect("legacy_depthwise.h5", "keras-legacy-weights", depthwise)


# ---- Keras 3, written by hand for what its present version no longer writes


def write_v3(file, groups):
    """groups: {path of the layer: (name attribute or None, [values])}"""
    with h5py.File(folder / file, "w") as f:
        for path, (name, tensors) in groups.items():
            group = f.create_group(path).create_group("vars")
            if name:
                group.attrs["name"] = name
            for i, value in enumerate(tensors):
                group.create_dataset(str(i), data=value)


def v3_samples():
    kernels = [values(1, 1, 2, i + 1) for i in range(12)]
    biases = [values(i + 1) for i in range(12)]
    # TensorFlow 2.12 to 2.14 counted weighted layers twice, so every other number is missing, and 10 sorts before 2 as text.
    for separator, file in (("/", "v3_tf212.weights.h5"), ("\\", "v3_tf212_windows.weights.h5")):
        root = f"_layer_checkpoint_dependencies{separator}"
        names = ["conv2d" if i == 0 else f"conv2d_{2 * i}" for i in range(12)]
        write_v3(file, {root + n: (None, [k, b]) for n, k, b in zip(names, kernels, biases)})
        expect(file, "keras-v3-weights", {n: {"kernel": k, "bias": b} for n, k, b in zip(names, kernels, biases)})
    bn = list(batch_norm(3).values())
    write_v3(
        "v3_attributes.weights.h5",  # a subclassed model, whose layers are attributes of its own
        {
            "block1/layers/conv2d": ("block1_conv1", [kernels[1], biases[1]]),
            "block1/layers/batch_normalization": ("block1_bn", bn[1:]),
            "head": ("conv2d_7", [kernels[2], biases[2]]),
            "norm": ("bn", bn),
            "optimizer": ("adam", [np.int64(3), kernels[0]]),
            "drop/seed_generator": ("seed_generator", [np.zeros(2, "uint32")]),
        },
    )
    expect(
        "v3_attributes.weights.h5",
        "keras-v3-weights",
        {
            "block1_bn": dict(zip(("beta", "moving_mean", "moving_variance"), bn[1:])),
            "block1_conv1": {"kernel": kernels[1], "bias": biases[1]},
            "conv2d_7": {"kernel": kernels[2], "bias": biases[2]},
            "bn": dict(zip(("gamma", "beta", "moving_mean", "moving_variance"), bn)),
        },
    )
    write_v3("v3_same_names.weights.h5", {"a/layers/conv2d": ("conv", [kernels[0]]), "b/layers/conv2d": ("conv", [kernels[1]])})
    expect("v3_same_names.weights.h5", "keras-v3-weights", {"a/layers/conv2d": {"kernel": kernels[0]}, "b/layers/conv2d": {"kernel": kernels[1]}})


# ---- real Keras


def keras_samples():
    import keras
    from keras import layers as L
    from keras.src.legacy.saving import legacy_h5_format

    def expected(model):
        result = {}
        for layer in model.layers:
            if isinstance(layer, keras.Model):
                result.update(expected(layer))
            elif layer.weights and not isinstance(layer, L.Dropout):
                convert = lambda v: v.value.detach() if v.dtype == "bfloat16" else v.numpy()
                result[layer.name] = {v.path.split("/")[-1]: convert(v) for v in layer.weights}
        return result

    def randomize(model):
        for v in model.weights:
            if "seed" not in v.path:
                v.assign(random.standard_normal(v.shape))

    def functional(**policy):
        x = i = keras.Input((8, 8, 3))
        x = L.Conv2D(4, 3, name="first", **policy)(x)
        x = L.BatchNormalization(name="plain", **policy)(x)
        for k in range(11):  # the eleventh sorts before the second as text
            x = L.Conv2D(4, 1, use_bias=k % 2 == 0, name=f"c{k}", **policy)(x)
        x = L.BatchNormalization(scale=False, name="unscaled", **policy)(x)
        x = L.DepthwiseConv2D(3, name="dw", **policy)(x)
        x = L.Add(name="add", **policy)([x, L.BatchNormalization(center=False, name="uncentred", **policy)(x)])
        x = L.Dropout(0.1, name="drop", **policy)(L.GlobalAveragePooling2D(name="pool", **policy)(x))
        return keras.Model(i, L.Dense(2, name="head", **policy)(x), name="net")

    def nested(trainable):
        x = i = keras.Input((8, 8, 3))
        for k in (1, 2):
            x = L.BatchNormalization(name=f"b{k}")(L.Conv2D(4, 3, name=f"c{k}")(x))
        base = keras.Model(i, x, name="base")
        base.trainable = trainable
        inputs = keras.Input((8, 8, 3))
        x = L.Dropout(0.1)(L.GlobalAveragePooling2D()(base(inputs)))
        return keras.Model(inputs, L.Dense(2, name="head")(x))

    def one_layer_inside():
        base = keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(4, 3, name="only")], name="base")
        return keras.Sequential([keras.Input((8, 8, 3)), base, L.Flatten(), L.Dense(2, name="head")], name="outer")

    models = {"functional": functional(), "frozen": nested(False), "trainable": nested(True), "sequential": one_layer_inside()}
    for name, model in models.items():
        randomize(model)
        want = expected(model)
        if name == "frozen":  # with optimizer state beside the weights
            model.compile("adam", "mse")
            model.train_on_batch(np.zeros((1, 8, 8, 3)), np.zeros((1, 2)))
            want = expected(model)
        model.save(folder / f"keras_{name}.h5")
        model.save(folder / f"keras_{name}.keras")
        model.save_weights(folder / f"keras_{name}.weights.h5")
        expect(f"keras_{name}.h5", "keras-legacy-model", want)
        expect(f"keras_{name}.keras", "keras-archive", want)
        with h5py.File(folder / f"keras_{name}_weights.h5", "w") as f:
            legacy_h5_format.save_weights_to_hdf5_group(f, model)
        with h5py.File(folder / f"keras_{name}.weights.h5") as f:  # the order of this file: by path, counters as numbers
            order = []
            f.visititems(lambda p, o: order.append((p, o.attrs["name"])) if p.endswith("vars") and len(o) else None)
        number = lambda path: [(s.rsplit("_", 1)[0], int(s.rsplit("_", 1)[1])) if s[-1].isdigit() and "_" in s else (s, -1) for s in path.split("/")]
        in_file = [n for p, n in sorted(order, key=lambda e: number(e[0])) if n in want]
        numbered = {n: dict(want[n]) for n in in_file}
        if "uncentred" in numbered:  # without an architecture three vectors are taken for scale=False
            numbered["uncentred"] = dict(zip(("beta", "moving_mean", "moving_variance"), numbered["uncentred"].values()))
        expect(f"keras_{name}.weights.h5", "keras-v3-weights", numbered)
        if name != "sequential":  # there a group `base` with one layer inside cannot be told from a layer `base`
            expect(f"keras_{name}_weights.h5", "keras-legacy-weights", want)

        # Before Keras 3.6 groups had no names; the architecture in the archive still tells them.
        with zipfile.ZipFile(folder / f"keras_{name}.keras") as source, zipfile.ZipFile(folder / f"keras_{name}_unnamed.keras", "w", zipfile.ZIP_DEFLATED) as target:
            for member in source.namelist():
                data = source.read(member)
                if member == "model.weights.h5":
                    (folder / "unnamed.tmp").write_bytes(data)
                    with h5py.File(folder / "unnamed.tmp", "r+") as f:
                        f.visititems(lambda p, o: o.attrs.pop("name", None) if p.endswith("vars") else None)
                    data = (folder / "unnamed.tmp").read_bytes()
                target.writestr(member, data)
        expect(f"keras_{name}_unnamed.keras", "keras-archive", want)

    for policy in ("bfloat16", "float16", "float64"):
        model = keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(4, 3, name="a", dtype=keras.DTypePolicy(policy))])
        randomize(model)
        model.save_weights(folder / f"keras_{policy}.weights.h5")
        expect(f"keras_{policy}.weights.h5", "keras-v3-weights", expected(model))


# ---- PyTorch and safetensors


def grouped(state):
    layers = collections.OrderedDict()
    for key, value in state.items():
        layer, _, variable = key.rpartition(".")
        layers.setdefault(layer, collections.OrderedDict())[variable] = value
    return layers


def torch_samples():
    torch.manual_seed(1)
    net = torch.nn.Sequential(collections.OrderedDict(conv=torch.nn.Conv2d(3, 4, 3), bn=torch.nn.BatchNorm2d(4), fc=torch.nn.Linear(4, 2)))
    state = net.state_dict()
    big = torch.randn(6, 5, 4)
    odd = collections.OrderedDict(
        {
            "a.transposed": big.transpose(0, 2),
            "a.slice": big[1:5:2, ::3, 1:],
            "a.offset": big[2],
            "a.expanded": torch.randn(3, 1).expand(3, 4),
            "a.channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
            "a.empty": torch.zeros(0, 3),
            "a.scalar": torch.tensor(7),
            "b.half": torch.randn(3).half(),
            "b.bfloat": torch.randn(3).bfloat16(),
            "b.double": torch.randn(3).double(),
            "b.int": torch.arange(3, dtype=torch.int32),
            "b.byte": torch.arange(3, dtype=torch.uint8),
            "b.bool": torch.tensor([True, False, True]),
            "b.tied": big,
        }
    )
    odd_expected = {k: v.to(torch.uint8) if v.dtype == torch.bool else v.contiguous() for k, v in odd.items()}
    checkpoint = {"epoch": 3, "lr": 0.1, "best": None, "huge": 1 << 90, "state_dict": {"module." + k: v for k, v in state.items()}, "sizes": torch.Size([1])}
    for old in (False, True):
        kind = "stream" if old else "zip"
        save = lambda value, name, **options: torch.save(value, folder / name, _use_new_zipfile_serialization=not old, **options)
        save(state, f"torch_{kind}.pth")
        save(odd, f"torch_odd_{kind}.pth")
        save(checkpoint, f"torch_checkpoint_{kind}.pth")
        save({k: torch.nn.Parameter(v) for k, v in state.items() if v.is_floating_point()}, f"torch_parameters_{kind}.pth")
        save(state, f"torch_protocol4_{kind}.pth", pickle_protocol=4)
        for name, want in (("", state), ("_checkpoint", state), ("_protocol4", state), ("_odd", odd_expected)):
            expect(f"torch{name}_{kind}.pth", "pytorch", grouped(want))
        expect(f"torch_parameters_{kind}.pth", "pytorch", grouped({k: v for k, v in state.items() if v.is_floating_point()}))

        class Call:
            def __init__(self, function, *arguments):
                self.call = function, arguments

            def __reduce__(self):
                return self.call

        rebuild = lambda *arguments: Call(torch._utils._rebuild_tensor_v2, *arguments, False, collections.OrderedDict())
        storage = torch.zeros(4).storage()
        for name, value, message in (
            ("system", {"a.b": Call(os.system, "touch executed")}, "'posix.system'"),
            ("module", net, "torch.nn.modules"),
            ("int8", {"a.b": torch.zeros(3, dtype=torch.int8)}, "got torch.CharStorage"),
            ("beyond", {"a.b": rebuild(storage, 2, (3,), (1,))}, "reaches element 5 of a storage of 4"),
            ("negative", {"a.b": rebuild(storage, -1, (2,), (1,))}, "the offset is no number or negative"),
            ("strides", {"a.b": rebuild(storage, 0, (2, 2), (1,))}, "2 sizes and 1 strides"),
            ("wrap", {"a.b": rebuild(storage, 0, (2**62, 4), (4, 1))}, "more elements than can be counted"),
            ("repeat", {"a.b": rebuild(storage, 0, (2**40, 2), (0, 0))}, "repeats its elements"),
            ("nothing", {"epoch": 1}, "got the keys: epoch"),
        ):
            save(value, f"torch_{name}_{kind}.pth")
            refuse(f"torch_{name}_{kind}.pth", message)

    tensors = {k: v.contiguous() for k, v in odd_expected.items() if k != "b.tied"}
    safetensors.torch.save_file(tensors, folder / "python.safetensors", {"answer": "42"})
    header = json.loads((folder / "python.safetensors").read_bytes()[8:].split(b"}}")[0] + b"}}")
    header.pop("__metadata__", None)
    in_file = sorted(header, key=lambda k: (header[k]["data_offsets"], k))
    expect("python.safetensors", "safetensors", grouped({k: tensors[k] for k in in_file}))
    safetensors.torch.save_file({"q": torch.zeros(3, dtype=torch.int8)}, folder / "int8.safetensors")
    refuse("int8.safetensors", "got 'I8'")


# ---- files to refuse


def refused_samples():
    def one_layer(file, fill):
        with h5py.File(folder / file, "w") as f:
            f.attrs["layer_names"] = np.array(["a"], "S")
            group = f.create_group("a")
            group.attrs["weight_names"] = np.array(["a/kernel:0"], "S")
            fill(group.create_group("a"))

    cases = {
        "soft_link.h5": (lambda g: g.__setitem__("kernel:0", h5py.SoftLink("/elsewhere")), "got a soft link"),
        "external_link.h5": (lambda g: g.__setitem__("kernel:0", h5py.ExternalLink("/etc/passwd", "/")), "got an external link"),
        "external_data.h5": (lambda g: g.create_dataset("kernel:0", (4,), "f4", external=[("/etc/passwd", 0, 16)]), "the dataset is external"),
        "missing.h5": (lambda g: None, "there is nothing"),
        "group.h5": (lambda g: g.create_group("kernel:0"), "there is a group"),
        "unwritten.h5": (lambda g: g.create_dataset("kernel:0", (1 << 30,), "f4"), "0 are stored"),
        "bomb.h5": (lambda g: g.create_dataset("kernel:0", (1 << 20, 1 << 20), "f4", chunks=(1 << 10, 1), compression="gzip"), "chunks, 0 are stored"),
        "chunk_bomb.h5": (lambda g: g.create_dataset("kernel:0", (4,), "f4", chunks=(1 << 28,), maxshape=(None,), compression="gzip"), "1 chunks, 0 are stored"),
        "int8.h5": (lambda g: g.create_dataset("kernel:0", data=np.zeros(4, "i1")), "got signed 8-bit integers (quantised?)"),
        "opaque.h5": (lambda g: g.create_dataset("kernel:0", data=np.zeros(4, "V2")), "got opaque elements of 16 bits"),
        "filter.h5": (lambda g: g.create_dataset("kernel:0", data=np.zeros(4096, "f4"), compression="lzf"), "'lzf'"),
        "null.h5": (lambda g: g.create_dataset("kernel:0", data=h5py.Empty("f4")), "has no type or no extent"),
    }
    for file, (fill, message) in cases.items():
        one_layer(file, fill)
        refuse(file, message)
    source = h5py.VirtualSource(str(folder / "int8.h5"), "a/a/kernel:0", shape=(4,))
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = source
    one_layer("virtual.h5", lambda g: g.create_virtual_dataset("kernel:0", layout))
    refuse("virtual.h5", "the dataset is virtual")
    with h5py.File(folder / "ring.weights.h5", "w") as f:
        f.create_group("layers/conv2d/vars")
        f["layers/conv2d/again"] = f["layers"]
    refuse("ring.weights.h5", "can be reached in two ways")
    with h5py.File(folder / "gap.weights.h5", "w") as f:
        f["layers/conv2d/vars/0"], f["layers/conv2d/vars/2"] = values(1, 1, 1, 1), values(1)
    refuse("gap.weights.h5", "the numbers have a gap")
    with h5py.File(folder / "keras0.h5", "w") as f:
        f.attrs["nb_layers"] = 1
        f["layer_0/param_0"] = values(2)
    refuse("keras0.h5", "Keras 0.x")
    with h5py.File(folder / "other.h5", "w") as f:
        f["table"] = values(2)
    refuse("other.h5", "the root holds: table")
    with h5py.File(folder / "no_group.h5", "w") as f:
        f.attrs["layer_names"] = np.array(["a"], "S")
    refuse("no_group.h5", "lists a layer 'a' that has no group")

    whole = (folder / "legacy_keras2_fixed.h5").read_bytes()
    (folder / "truncated.h5").write_bytes(whole[: len(whole) // 2])
    refuse("truncated.h5", "truncated file")
    (folder / "lfs.h5").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    refuse("lfs.h5", "run git lfs pull")
    (folder / "page.h5").write_text("<!DOCTYPE html><title>404</title>")
    refuse("page.h5", "this is a web page")
    (folder / "empty.h5").write_bytes(b"")
    refuse("empty.h5", "the file is empty")
    (folder / "noise.h5").write_bytes(random.bytes(4096))
    refuse("noise.h5", "starts like none of these")

    archive = (folder / "keras_sequential.keras").read_bytes()
    (folder / "truncated.keras").write_bytes(archive[: len(archive) - 100])
    refuse("truncated.keras", "cannot be read as a zip archive")
    damaged = bytearray(archive)
    damaged[archive.index(b"\x89HDF") + 3000] ^= 1
    (folder / "damaged.keras").write_bytes(damaged)
    refuse("damaged.keras", "is damaged")
    for file, members, message in (
        ("leaves.keras", {"config.json": "{}", "../evil": ""}, "'../evil' would leave the archive"),
        ("numpy.npz", {"a.npy": ""}, "holds neither"),
        ("npz.keras", {"config.json": "{}", "model.weights.npz": ""}, "got model.weights.npz"),
        ("config.keras", {"config.json": "[", "model.weights.h5": whole}, "is not a JSON object"),
    ):
        with zipfile.ZipFile(folder / file, "w") as z:
            for name, data in members.items():
                z.writestr(name, data)
        refuse(file, message)
    with zipfile.ZipFile(folder / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("config.json", "{}")
    bomb = bytearray((folder / "bomb.keras").read_bytes())
    struct.pack_into("<I", bomb, bomb.index(b"PK\1\2") + 24, 1 << 31)  # the expanded size in the directory
    (folder / "bomb.keras").write_bytes(bomb)
    refuse("bomb.keras", "expand to 2147483648")


def check_written():
    """What graft's own tests write: element i of a tensor of type T is T(i - 2), u8 wraps around."""
    loaded = safetensors.torch.load_file(folder / "written.safetensors")
    kinds = {"f32": torch.float32, "f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16, "i32": torch.int32, "i64": torch.int64}
    for name, dtype in kinds.items():
        assert loaded[name].dtype == dtype and torch.equal(loaded[name], torch.arange(-2, 4).reshape(2, 3).to(dtype)), name
    assert torch.equal(loaded["u8"], torch.tensor([[254, 255, 0], [1, 2, 3]], dtype=torch.uint8))
    with safetensors.safe_open(folder / "written.safetensors", "pt") as f:
        assert f.metadata() == {"graph": "{\"a\": \"\u00e4\"}"}, f.metadata()
    for name in ("f32", "f64", "f16", "i32", "i64", "u8"):
        array = np.load(folder / f"written_{name}.npy", allow_pickle=False)
        assert np.array_equal(array, loaded[name].numpy()) and array.dtype == loaded[name].numpy().dtype, name


if "--check" in sys.argv:
    check_written()
else:
    folder.mkdir(parents=True, exist_ok=True)
    for write in (legacy_samples, v3_samples, keras_samples, torch_samples, refused_samples):
        write()
    (folder / "samples.json").write_text(json.dumps(samples))
