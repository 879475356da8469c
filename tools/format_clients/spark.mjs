// node spark.mjs IN OUT.spz: reads IN with Spark and writes it again as SPZ version 2.
import { readFileSync, writeFileSync } from 'node:fs';

// Spark expects a browser; its decoder needs no more of one than these names.
globalThis.window ??= globalThis;
globalThis.document ??= { createElement: () => ({ getContext: () => null, style: {} }) };
globalThis.self ??= globalThis;
const { transcodeSpz } = await import('@sparkjsdev/spark');
const [input, output] = process.argv.slice(2);
await new Promise((done) => setTimeout(done, 3000)); // its WASM module loads on the side
const inputs = [{ fileBytes: new Uint8Array(readFileSync(input)), pathOrUrl: input }];
const result = await transcodeSpz({ inputs, fractionalBits: 16 });
writeFileSync(output, result.fileBytes);
process.exit(0);
