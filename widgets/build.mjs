// Bundles every file in src/ (not those in its folders) into saekit/static/, one ES module and one stylesheet each.
// `--check` builds into a temporary folder instead and fails when the committed bundles differ.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import esbuild from "esbuild";

const here = path.dirname(fileURLToPath(import.meta.url));
const committed = path.join(here, "..", "saekit", "static");
const entries = readdirSync(path.join(here, "src"))
  .filter((name) => name.endsWith(".ts") && !name.endsWith(".d.ts"))
  .sort()
  .map((name) => path.join("src", name));

/** The module "widgets": each widget's entry by the name of its bundle, for the offline page.
 * @type {import("esbuild").Plugin} */
const allWidgets = {
  name: "widgets",
  setup(build) {
    build.onResolve({ filter: /^widgets$/ }, () => ({ path: "widgets", namespace: "widgets" }));
    build.onLoad({ filter: /.*/, namespace: "widgets" }, () => {
      const names = entries.map((entry) => path.basename(entry, ".ts")).filter((name) => name !== "page");
      const imports = names.map((name) => `import ${name} from "./src/${name}";`);
      return { contents: [...imports, `export default { ${names.join(", ")} };`].join("\n"), resolveDir: here };
    });
  },
};

/** @param {string} outdir @returns {import("esbuild").BuildOptions} */
const options = (outdir) => ({
  absWorkingDir: here, // relative entry points: the output must not depend on where the checkout lies
  entryPoints: entries,
  outdir,
  plugins: [allWidgets],
  bundle: true,
  format: "esm",
  target: "es2022",
  splitting: false, // a widget is loaded from a blob, where relative imports do not resolve
  minify: true,
  charset: "ascii",
  legalComments: "none",
  logLevel: "warning",
});

if (process.argv.includes("--watch")) {
  const context = await esbuild.context({ ...options(committed), logLevel: "info" });
  await context.watch();
} else if (process.argv.includes("--check")) {
  const fresh = mkdtempSync(path.join(tmpdir(), "saekit-widgets-"));
  try {
    await esbuild.build(options(fresh));
    const isBundle = (/** @type {string} */ name) => name.endsWith(".js") || name.endsWith(".css");
    const names = new Set([...readdirSync(fresh), ...readdirSync(committed).filter(isBundle)]);
    const read = (/** @type {string} */ folder, /** @type {string} */ name) => {
      try {
        return readFileSync(path.join(folder, name), "utf8");
      } catch {
        return null;
      }
    };
    const stale = [...names].sort().filter((name) => read(fresh, name) !== read(committed, name));
    if (stale.length > 0) {
      console.error(
        `saekit/static does not match widgets/src: ${stale.join(", ")}; run: npm --prefix widgets run build`,
      );
      process.exitCode = 1;
    } else {
      console.log(`saekit/static matches widgets/src (${names.size} files)`);
    }
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
} else {
  await esbuild.build(options(committed));
}
