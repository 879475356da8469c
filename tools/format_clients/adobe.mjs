// node adobe.mjs read IN.spz OUT.f32 | write IN.f32 OUT.spz VERSION
// The .f32 file: uint32 count and SH degree, then float32 positions, scales, rotations (xyzw), alphas, colors, sh.
import { readFileSync, writeFileSync } from 'node:fs';
import createSpzModule from '@adobe/spz';

const [verb, input, output, version_] = process.argv.slice(2);
const version = Number(version_);
const spz = await createSpzModule();
const unspecified = spz.CoordinateSystem.UNSPECIFIED;
const names = ['positions', 'scales', 'rotations', 'alphas', 'colors', 'sh'];
if (verb === 'read') {
  const cloud = spz.loadSpzFromBuffer(new Uint8Array(readFileSync(input)), { to: unspecified });
  const head = Buffer.from(new Uint32Array([cloud.numPoints, cloud.shDegree]).buffer);
  const parts = names.map((name) => Buffer.from(new Float32Array(cloud[name]).buffer));
  writeFileSync(output, Buffer.concat([head, ...parts]));
} else {
  const bytes = readFileSync(input);
  const data = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  const [n, degree] = new Uint32Array(data, 0, 2);
  const widths = [3, 3, 4, 1, 3, 3 * ((degree + 1) ** 2 - 1)];
  const cloud = { numPoints: n, shDegree: degree, antialiased: false, extensions: [] };
  let at = 8;
  names.forEach((name, i) => {
    cloud[name] = new Float32Array(data, at, n * widths[i]);
    at += 4 * n * widths[i];
  });
  writeFileSync(output, spz.saveSpzToBuffer(cloud, { from: unspecified, version, sh1Bits: 5, shRestBits: 4 }));
}
