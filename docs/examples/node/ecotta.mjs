// A bundle without our Python: read it, answer frames, learn from them. Runs in Node and in a browser; the only thing it
// needs is an onnxruntime for JavaScript, which is handed in. The rules are in docs/bundle-format.md.

/** The members of a stored zip: name -> Uint8Array into `bytes`; nothing is copied and nothing unpacked. */
function members(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = bytes.byteLength - 22; // a bundle ends with this record: comments are not allowed
  if (end < 0 || view.getUint32(end, true) !== 0x06054b50) throw new Error("not a bundle, or a truncated one");
  const found = new Map();
  let at = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    if (view.getUint32(at, true) !== 0x02014b50) throw new Error("the bundle's directory is damaged");
    if (view.getUint16(at + 10, true) !== 0) throw new Error("a member is compressed: not a bundle");
    const size = view.getUint32(at + 24, true);
    const lengths = [28, 30, 32].map((field) => view.getUint16(at + field, true)); // name, extra, comment
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + lengths[0]));
    const header = view.getUint32(at + 42, true); // the local header has an extra field of its own length
    const start = header + 30 + view.getUint16(header + 26, true) + view.getUint16(header + 28, true);
    if (start + size > bytes.byteLength) throw new Error(`${name}: reaches beyond the end of the bundle`);
    found.set(name, bytes.subarray(start, start + size));
    at += 46 + lengths[0] + lengths[1] + lengths[2];
  }
  return found;
}

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** safetensors: 8 bytes with the length of a JSON header, the header, then the numbers; offsets count from there. */
function tensors(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = 8 + Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
  delete header.__metadata__;
  return (name) => {
    const [from, to] = header[name].data_offsets;
    return new Float32Array(bytes.slice(start + from, start + to).buffer); // a copy, so that it is aligned
  };
}

function flat(section, layout, read) {
  const arrays = layout.map((array) => read(`${section}/${array.name}`));
  const vector = new Float32Array(arrays.reduce((sum, array) => sum + array.length, 0));
  let at = 0;
  for (const array of arrays) {
    vector.set(array, at);
    at += array.length;
  }
  return vector;
}

/** A bundle in memory: what its manifest says, its graphs, weights and first state; digests compared. */
export async function readBundle(bytes) {
  const parts = members(bytes);
  const manifest = JSON.parse(new TextDecoder().decode(parts.get("manifest.json")));
  if (manifest.format !== "ecotta-bundle") throw new Error("not a bundle");
  const digests = [["weights.bin", manifest.weights_sha256], ["state.safetensors", manifest.state_sha256]];
  for (const graph of manifest.graphs) digests.push([`graphs/${graph.name}.onnx`, graph.sha256]);
  for (const [name, digest] of digests)
    if ((await sha256(parts.get(name))) !== digest) throw new Error(`${name} is damaged: its digest is another one`);
  return { manifest, parts };
}

/** The three vectors that a step takes and gives anew. */
export function firstState({ manifest, parts }) {
  const read = tensors(parts.get("state.safetensors"));
  return {
    parameters: flat("parameters", manifest.layout.parameters, read),
    momentum: flat("momentum", manifest.layout.parameters, read),
    statistics: flat("statistics", manifest.layout.statistics, read),
  };
}

/** The statistics moved towards those `seen` in each frame, [N, S]: an exponential average of whole distributions. */
function moved({ layout, options }, statistics, seen) {
  const u = options.statistics_momentum, next = Float32Array.from(statistics), count = next.length;
  for (let frame = 0; frame < seen.length; frame += count)
    for (let place = 0, at = 0; at < layout.statistics.length; at += 2) {
      const channels = layout.statistics[at].shape[0]; // NORM.mean, and behind it NORM.variance
      for (let i = place; i < place + channels; i++) {
        const d = seen[frame + i] - next[i], v = i + channels;
        next[v] = (1 - u) * (next[v] + u * d * d) + u * seen[frame + v];
        next[i] += u * d;
      }
      place += 2 * channels;
    }
  return next;
}

/** Pixels as a canvas gives them, 8-bit RGBA, or RGB -> float32 [channels, height, width] in [0, 1]. */
export function toFrame(pixels, { channels, height, width }) {
  const stride = pixels.length / (height * width);
  const frame = new Float32Array(channels * height * width);
  for (let i = 0; i < height * width; i++)
    for (let c = 0; c < channels; c++) frame[c * height * width + i] = pixels[i * stride + c] / 255;
  return frame;
}

export function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

/** A graph of a bundle: call `run` with frames and a state; it answers, and gives the next state if it learns. */
export class Graph {
  static async open(ort, bundle, name) {
    const graph = new Graph();
    graph.ort = ort;
    graph.manifest = bundle.manifest;
    graph.entry = bundle.manifest.graphs.find((entry) => entry.name === name);
    if (!graph.entry) throw new Error(`no graph ${name}; there are ${bundle.manifest.graphs.map((entry) => entry.name)}`);
    graph.session = await ort.InferenceSession.create(bundle.parts.get(`graphs/${name}.onnx`), {
      executionProviders: ["wasm"],
      externalData: [{ path: "weights.bin", data: bundle.parts.get("weights.bin") }],
    });
    return graph;
  }

  /** frames: float32, `entry.batch` of them one behind the other. */
  async run(frames, state) {
    const { channels, height, width } = this.manifest.frame;
    const inputs = { ...state, frames };
    const feeds = {};
    for (const name of this.session.inputNames) {
      const shape = name === "frames" ? [this.entry.batch, channels, height, width] : [inputs[name].length];
      feeds[name] = new this.ort.Tensor("float32", inputs[name], shape);
    }
    const out = await this.session.run(feeds);
    const classes = this.manifest.classes.length;
    const answers = Array.from({ length: this.entry.batch }, (_, i) => {
      const logits = out.logits.data.slice(i * classes, (i + 1) * classes);
      const probabilities = softmax(logits);
      const label = probabilities.indexOf(Math.max(...probabilities));
      return { logits, probabilities, label: this.manifest.classes[label] };
    });
    const next = { ...state };
    const finite = [out.logits, out.next_parameters, out.next_momentum, out.seen].every(
      (tensor) => !tensor || tensor.data.every(Number.isFinite),
    );
    // What is not finite is not taken over, as the Python runtime does it.
    if (finite) for (const name of Object.keys(state)) if (out[`next_${name}`]) next[name] = out[`next_${name}`].data;
    if (finite && out.seen) next.statistics = moved(this.manifest, state.statistics, out.seen.data);
    return { answers, learned: finite && Boolean(out.moved?.data[0]), state: next };
  }
}
