// node validator.mjs IN.glb…: prints the Khronos validator's issues as JSON, one line per file.
import { readFileSync } from 'node:fs';
import validator from 'gltf-validator';

for (const input of process.argv.slice(2)) {
  const report = await validator.validateBytes(new Uint8Array(readFileSync(input)));
  console.log(JSON.stringify({ input, ...report.issues }));
}
