// Runs a bundle over test vectors that Python made, and says how far the two are apart.
//
//     npm install
//     python make_vectors.py net.ecotta vectors.json
//     node compare.mjs net.ecotta vectors.json

import { readFile } from "node:fs/promises";
import * as ort from "onnxruntime-web";
import { Graph, firstState, readBundle, toFrame } from "./ecotta.mjs";
import { toPixels } from "./frame.mjs";

const [bundlePath, vectorsPath] = process.argv.slice(2);
ort.env.wasm.numThreads = 1;
const bundle = await readBundle(new Uint8Array(await readFile(bundlePath)));
const vectors = JSON.parse(await readFile(vectorsPath, "utf8"));

function numbers(base64, Kind) {
  const bytes = Buffer.from(base64, "base64");
  return new Kind(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

function furthest(mine, theirs) {
  if (mine.length !== theirs.length) throw new Error(`${mine.length} numbers, expected ${theirs.length}`);
  return mine.reduce((most, number, i) => Math.max(most, Math.abs(number - theirs[i])), 0);
}

const graph = await Graph.open(ort, bundle, vectors.graph);
let state = firstState(bundle);
let worst = 0;
for (const step of vectors.steps) {
  const pixels = toPixels(numbers(step.picture, Uint8Array), step.size, bundle.manifest.frame);
  if (furthest(pixels, numbers(step.pixels, Uint8Array)) > 0) throw new Error("the picture was resized to other bytes");
  const frame = toFrame(pixels, bundle.manifest.frame);
  const result = await graph.run(frame, state);
  state = result.state;
  if (result.learned !== step.adapted) throw new Error(`learned: ${result.learned}, Python: ${step.adapted}`);
  worst = Math.max(worst, furthest(result.answers[0].probabilities, numbers(step.probabilities, Float32Array)));
  for (const name of Object.keys(state)) worst = Math.max(worst, furthest(state[name], numbers(step[name], Float32Array)));
  console.log(`${result.answers[0].label}, ${result.learned ? "learned" : "did not learn"}`);
}
console.log(`furthest from Python: ${worst.toExponential(1)}`);
if (!(worst < 1e-4)) process.exitCode = 1;
