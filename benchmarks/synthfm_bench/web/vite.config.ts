import { defineConfig } from "vite";

// The bundle goes where `synthfm play` serves it from. Nothing is loaded from elsewhere.
export default defineConfig({
  base: "./",
  build: {
    outDir: "../play/page",
    emptyOutDir: true,
    target: "es2022",
    chunkSizeWarningLimit: 4000,
    license: { fileName: "licenses.md" }, // of what is bundled, NiiVue first
  },
});
