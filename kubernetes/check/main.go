// Builds kubernetes/base with kustomize's own library, and reads each object into Kubernetes' own types, strictly: a field
// that a type does not have, or a value of another kind, is an error. Needs no cluster and no network once built.
package main

import (
	"fmt"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

var kinds = map[string]func() any{
	"v1/Namespace":                       func() any { return &corev1.Namespace{} },
	"v1/Service":                         func() any { return &corev1.Service{} },
	"v1/Secret":                          func() any { return &corev1.Secret{} },
	"v1/ConfigMap":                       func() any { return &corev1.ConfigMap{} },
	"apps/v1/Deployment":                 func() any { return &appsv1.Deployment{} },
	"apps/v1/StatefulSet":                func() any { return &appsv1.StatefulSet{} },
	"batch/v1/Job":                       func() any { return &batchv1.Job{} },
	"networking.k8s.io/v1/NetworkPolicy": func() any { return &networkingv1.NetworkPolicy{} },
}

func main() {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	bad := 0
	for _, object := range built.Resources() {
		name := fmt.Sprintf("%s %s", object.GetKind(), object.GetName())
		text, err := object.AsYAML()
		kind, known := kinds[object.GetApiVersion()+"/"+object.GetKind()]
		switch {
		case err != nil:
		case !known:
			err = fmt.Errorf("kind %s/%s is not known here", object.GetApiVersion(), object.GetKind())
		default:
			err = yaml.UnmarshalStrict(text, kind())
		}
		if err != nil {
			bad++
			fmt.Printf("%-32s %v\n", name, err)
		} else {
			fmt.Printf("%-32s good\n", name)
		}
	}
	if bad > 0 {
		os.Exit(1)
	}
}
