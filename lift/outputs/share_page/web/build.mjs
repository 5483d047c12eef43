// Bundles viewer.js with its packages into ../assets: `npm install && npm run build`.
import { build } from "esbuild";
import { readFile, writeFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import { gzipSync, constants } from "node:zlib";

const result = await build({
  entryPoints: ["viewer.js"],
  bundle: true,
  minify: true,
  format: "iife",
  globalName: "liftShare",
  target: ["chrome107", "firefox113", "safari16.4"],
  legalComments: "none",
  write: false,
});
const code = Buffer.from(result.outputFiles[0].contents);
await writeFile("../assets/viewer.js.gz", gzipSync(code, { level: constants.Z_BEST_COMPRESSION }));

const { dependencies } = JSON.parse(await readFile("package.json", "utf-8"));
const notices = [
  "viewer.js.gz is built from viewer.js of lift (Apache-2.0) and the following packages of npm.",
];
for (const name of [...Object.keys(dependencies), "fflate"]) {
  const folder = `node_modules/${name}`;
  const { version, license } = JSON.parse(await readFile(`${folder}/package.json`, "utf-8"));
  const text = await readFile(`${folder}/LICENSE`, "utf-8");
  notices.push(`${name} ${version} (${license})\n\n${text.trim()}`);
}
await writeFile("../assets/LICENSES.txt", notices.join(`\n\n${"-".repeat(72)}\n\n`) + "\n");

// A test compares this with the sources, so that a stale bundle is found.
const hash = createHash("sha256");
for (const file of ["viewer.js", "package.json", "build.mjs"]) hash.update(await readFile(file));
await writeFile("../assets/SOURCES.sha256", hash.digest("hex") + "\n");
console.log(`viewer.js.gz: ${code.length} bytes before compression`);
